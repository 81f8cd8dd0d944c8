"""Accuracy from one confusion matrix, in the protocol of ADE20K.

K classes. Labels are 0 not labelled, else class id + 1. Pixels without a true label are left out;
a prediction of 0 (nothing found) is wrong everywhere else.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]
Values = NDArray[np.float64]


def no_counts(classes: int) -> Counts:
    """An empty confusion matrix (K, K + 1): row: true class id; column: predicted label."""
    return np.zeros((classes, classes + 1), np.int64)


def count(truth: NDArray[np.uint8], predicted: NDArray[np.uint8], classes: int) -> Counts:
    """The confusion matrix of one image; add those of several. Both (H, W), labels up to K."""
    if truth.shape != predicted.shape:
        raise ValueError(f"prediction must be {truth.shape}, as its labels, got {predicted.shape}")
    if predicted.max() > classes:
        raise ValueError(f"predicted labels must be 0 to {classes}, got {predicted.max()}")
    labelled = truth > 0
    cells = (truth[labelled].astype(np.int64) - 1) * (classes + 1) + predicted[labelled]
    counts = np.bincount(cells, minlength=classes * (classes + 1))
    return counts.reshape(classes, classes + 1)


@dataclass(frozen=True)
class Scores:
    """Shares from 0 to 1; of each class (K,), NaN for classes that are nowhere in the labels.

    iou: correct pixels over those that are or were called the class. accuracy: over those that
    are. pixels: how many are.
    """

    iou: Values
    accuracy: Values
    pixels: Counts
    pixel_accuracy: float

    @property
    def miou(self) -> float:
        """The mean over the classes in the labels; NaN if nothing is labelled."""
        return _mean(self.iou)

    @property
    def mean_accuracy(self) -> float:
        return _mean(self.accuracy)


def scores_of(counts: Counts) -> Scores:
    """What a confusion matrix (K, K + 1) says."""
    correct = np.diagonal(counts[:, 1:])  # (K,)
    pixels, called = counts.sum(axis=1), counts[:, 1:].sum(axis=0)
    return Scores(
        iou=_share(correct, pixels + called - correct, where=pixels > 0),
        accuracy=_share(correct, pixels, where=pixels > 0),
        pixels=pixels,
        pixel_accuracy=float(correct.sum() / pixels.sum()) if pixels.any() else float("nan"),
    )


def _share(part: Counts, whole: Counts, where: NDArray[np.bool_]) -> Values:
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=where)


def _mean(values: Values) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
