"""Segmentation accuracy in the protocol of ADE20K, and the folders that it is measured on.

    FOLDER/images/SPLIT/X.jpg        the image (or .png, .webp, .bmp)
    FOLDER/annotations/SPLIT/X.png   its labels, 8 bits: 0 not labelled, else class id + 1

Pixels without a true label are left out; a prediction of 0 (nothing found) is wrong everywhere
else. K classes, H and W the size of an image.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .repository_steps import ImageError

CLASSES = 150  # of ADE20K; a network that knows fewer is measured against all of them
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
SHOWN = 10  # faulty files that a message names

Labels = NDArray[np.uint8]
Counts = NDArray[np.int64]
Values = NDArray[np.float64]


class DataError(ImageError):
    """A folder or file that cannot be trained or measured on; the message names it."""


@dataclass(frozen=True)
class Pair:
    """An image and its labels."""

    image: Path
    labels: Path


@dataclass(frozen=True)
class Scores:
    """Shares from 0 to 1; of each class (K,), NaN for classes that are nowhere in the labels.

    pixels: how many pixels each class has in the labels.
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

    @classmethod
    def from_confusion(cls, confusion: Counts) -> Self:
        """The scores of a confusion matrix (K, K + 1)."""
        correct = np.diagonal(confusion[:, 1:])  # (K,)
        pixels, predicted = confusion.sum(axis=1), confusion[:, 1:].sum(axis=0)
        return cls(
            iou=_ratio(correct, pixels + predicted - correct, where=pixels > 0),
            accuracy=_ratio(correct, pixels, where=pixels > 0),
            pixels=pixels,
            pixel_accuracy=float(correct.sum() / pixels.sum()) if pixels.any() else float("nan"),
        )


def no_counts(classes: int = CLASSES) -> Counts:
    """An empty confusion matrix (K, K + 1): row: true class id; column: predicted label."""
    return np.zeros((classes, classes + 1), np.int64)


def confusion_matrix(truth: Labels, predicted: Labels, classes: int = CLASSES) -> Counts:
    """The confusion matrix of one image; add those of several. Both (H, W), labels up to K."""
    if truth.shape != predicted.shape:
        raise ValueError(f"prediction must be {truth.shape}, as its labels, got {predicted.shape}")
    if predicted.max() > classes:
        raise ValueError(f"predicted labels must be 0 to {classes}, got {predicted.max()}")
    labelled = truth > 0
    cells = (truth[labelled].astype(np.int64) - 1) * (classes + 1) + predicted[labelled]
    counts = np.bincount(cells, minlength=classes * (classes + 1))
    return counts.reshape(classes, classes + 1)


def find_pairs(folder: Path, split: str) -> list[Pair]:
    """All pairs of a split, by name. Raises DataError if it is empty or one has no counterpart."""
    images = {
        path.stem: path
        for path in sorted((folder / "images" / split).glob("*"))
        if path.suffix.lower() in SUFFIXES
    }
    annotations = folder / "annotations" / split
    labels = {path.stem: path for path in annotations.glob("*.png")}
    if not images and not labels:
        raise DataError(
            f"{folder} must hold images/{split}/X.jpg and annotations/{split}/X.png, "
            "but there are none"
        )
    missing = []
    for name in sorted(images.keys() ^ labels.keys()):
        present = images.get(name) or labels[name]
        counterpart = annotations / f"{name}.png"
        if name in labels:
            counterpart = folder / "images" / split / f"{name}.jpg"
        missing.append(f"{present} needs its counterpart {counterpart}, which is missing")
    raise_faults(missing)
    return [Pair(path, labels[name]) for name, path in images.items()]


def read_labels(path: Path, size: tuple[int, int]) -> Image.Image:
    """The labels of an image of `size` (width, height), mode L or P; DataError if unusable."""
    try:
        with Image.open(path) as labels:
            labels.load()
    except Exception as error:  # decoders raise nearly any type on damaged bytes
        raise DataError(f"{path} must be a whole image, but cannot be read: {error}") from error
    if labels.mode not in ("L", "P"):
        raise DataError(f"{path} must be an 8-bit image of one channel, got mode {labels.mode}")
    if labels.size != size:
        width, height = labels.size
        raise DataError(
            f"{path} must be as large as its image, {size[0]} x {size[1]}, got {width} x {height}"
        )
    return labels


def label_array(path: Path, labels: Image.Image, classes: int = CLASSES) -> Labels:
    """`labels`, read from `path`, as an array (H, W); DataError for a label above `classes`."""
    array = np.asarray(labels)
    if array.max() > classes:
        raise DataError(f"{path} must hold labels from 0 to {classes}, got {array.max()}")
    return array


def raise_faults(faults: Sequence[str]) -> None:
    """Raise DataError with the first of these sentences, if there are any."""
    if faults:
        more = [f"... and {len(faults) - SHOWN} more"] if len(faults) > SHOWN else []
        raise DataError("\n".join([*faults[:SHOWN], *more]))


def _ratio(part: Counts, whole: Counts, where: NDArray[np.bool_]) -> Values:
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=where)


def _mean(values: Values) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
