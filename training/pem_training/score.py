"""Score a predictor on a labelled folder: one confusion matrix for each kind of prediction.

A predictor turns an image file into label maps (H, W) uint8 by name, such as "served". Nothing but
the matrices is kept, so that memory does not grow with the folder.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pem_training.dataset import progress_bar, read_image
from pemexport.segmentation_scores import (
    Counts,
    DataError,
    Labels,
    Pair,
    confusion_matrix,
    label_array,
    no_counts,
    read_labels,
)

Predictor = Callable[[Path], Mapping[str, Labels]]


def score(predict: Predictor, pairs: Sequence[Pair], *, quiet: bool = False) -> dict[str, Counts]:
    """The confusion matrix (150, 151) of each kind of prediction, over all pairs.

    Raises DataError naming the file for a pair that cannot be used.
    """
    totals: dict[str, Counts] = {}
    for pair in progress_bar(pairs, "evaluating", len(pairs), disable=quiet, leave=False):
        truth = read_truth(pair)
        for name, labels in predict(pair.image).items():
            try:
                counts = confusion_matrix(truth, labels)
            except ValueError as error:
                raise DataError(f"{pair.image}: {error}") from error
            totals[name] = totals.get(name, no_counts()) + counts
    return totals


def read_truth(pair: Pair) -> Labels:
    """The labels of a pair, (H, W) uint8, at most 150."""
    return label_array(pair.labels, read_labels(pair.labels, read_image(pair.image).size))
