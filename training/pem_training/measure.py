"""Run a model over a labelled folder and count: one confusion matrix for each reading.

Nothing else is kept, so that memory does not grow with the folder.
"""

from collections.abc import Sequence

import numpy as np

from pem_training.confusion import Counts, count, no_counts
from pem_training.dataset import DataError, Pair, read_pair
from pem_training.progress import bar
from pem_training.segmenters import Segmenter

CLASSES = 150  # of ADE20K; a network that knows fewer is measured against all of them


def measure(segment: Segmenter, pairs: Sequence[Pair], *, quiet: bool = False) -> dict[str, Counts]:
    """The confusion matrix (150, 151) of each reading, over all pairs.

    Raises DataError naming the file for a pair that cannot be used.
    """
    totals: dict[str, Counts] = {}
    for pair in bar(pairs, "evaluating", len(pairs), disable=quiet, leave=False):
        truth = read_truth(pair)
        for reading, labels in segment(pair.image).items():
            counts = count(truth, labels, CLASSES)
            totals[reading] = totals.get(reading, no_counts(CLASSES)) + counts
    return totals


def read_truth(pair: Pair) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """The labels of a pair, (H, W) uint8."""
    truth = np.asarray(read_pair(pair)[1])
    if truth.max() > CLASSES:
        raise DataError(f"{pair.labels} must hold labels from 0 to {CLASSES}, got {truth.max()}")
    return truth
