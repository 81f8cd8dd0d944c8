"""Segmentation accuracy in the protocol of ADE20K, and the folders that it is measured on.

    FOLDER/images/SPLIT/X.jpg        the image (or .jpeg, .png, .webp, .bmp), or in a subfolder
    FOLDER/annotations/SPLIT/X.png   its labels, 8 bits: 0 not labelled, else class id + 1

Suffixes may be in capitals. Hidden files, such as the ._X.jpg of macOS, are left out.

Pixels without a true label are left out; a prediction of 0 (nothing found) is wrong everywhere
else. K classes, H and W the size of an image.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .repository_steps import ImageError

CLASSES = 150  # of ADE20K; a network that knows fewer is measured against all of them
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
STEPS = {"L;2": 85, "L;4": 17}  # Pillow stretches grey of 2 and 4 bits to 0..255
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


def image_files(folder: Path, suffixes: Collection[str] = SUFFIXES) -> list[Path]:
    """The files in a folder and its subfolders that have one of the suffixes, by name."""
    return [path for path in _visible(folder) if path.suffix.lower() in suffixes]


def find_pairs(folder: Path, split: str, *, spare_labels: bool = False) -> list[Pair]:
    """All pairs of a split, by name. Raises DataError if there are none, or naming single files.

    An image in a subfolder has its labels in the same subfolder or, by its name, outside of any.
    `spare_labels`: labels without an image are left out.
    """
    root, annotations = folder / "images" / split, folder / "annotations" / split
    images = {path: _key(path, root) for path in image_files(root)}
    labels = {_key(path, annotations): path for path in image_files(annotations, {".png"})}
    if not images and not labels:
        raise DataError(
            f"{folder} must hold images/{split}/X.jpg and annotations/{split}/X.png, "
            "but there are none"
        )
    images = {path: key if key in labels else Path(path.stem) for path, key in images.items()}
    faults = [
        _missing(path, annotations / f"{key}.png")
        for path, key in images.items()
        if key not in labels
    ]
    if not spare_labels:
        spare = sorted(labels.keys() - set(images.values()))
        faults += [_missing(labels[key], root / f"{key}.jpg") for key in spare]
    raise_faults(faults)
    return [Pair(path, labels[key]) for path, key in images.items()]


def _key(path: Path, folder: Path) -> Path:
    return path.relative_to(folder).with_suffix("")


def _visible(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if not path.name.startswith(".")]


def _missing(present: Path, counterpart: Path) -> str:
    """The sentence about a file without its counterpart, and what has that name instead."""
    others = [path.name for path in _visible(counterpart.parent) if path.stem == counterpart.stem]
    instead = f"; the format of {', '.join(others)} is not supported" if others else ""
    return f"{present} needs its counterpart {counterpart}, which is missing{instead}"


def read_labels(path: Path, size: tuple[int, int]) -> Image.Image:
    """The labels of an image of `size` (width, height), mode L or P; DataError if unusable."""
    try:
        with Image.open(path) as labels:
            stored = labels.tile[0][3] if labels.tile else None
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
    if stored in STEPS:
        return labels.point(lambda value: value // STEPS[stored])
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
