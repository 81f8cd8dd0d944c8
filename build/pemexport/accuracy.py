"""The accuracy of a graph against the FP32 graph, on images.

With labels: mIoU in the protocol of ADE20K, at the size of each image. In any case the agreement:
the share of pixels with the same class in the server's answer.

K classes, H and W the size of an image.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import onnx
from numpy.typing import NDArray

from . import contract
from .onnx_rewrite import open_session
from .repository_steps import ImageError, Labels, fit, read_back
from .segmentation_scores import (
    SUFFIXES,
    Counts,
    Scores,
    confusion_matrix,
    find_pairs,
    image_files,
    label_array,
    no_counts,
    read_labels,
)

Item = TypeVar("Item")
Images = NDArray[np.uint8]  # (B, S, S, 3)
# Images to class_ids (B, Q) and masks (B, S, S).
Answer = Callable[[Images], tuple[NDArray[np.int32], NDArray[np.uint8]]]


@dataclass(frozen=True)
class Example:
    """An image, and its labels where there are any."""

    image: Path
    labels: Path | None = None


@dataclass(frozen=True)
class Evaluation:
    """A graph's label map (H, W) of each example, and their confusion matrix (K, K + 1)."""

    maps: list[Labels]
    counts: Counts

    @property
    def iou(self) -> NDArray[np.float64]:
        """Of each class, from 0 to 1; NaN for classes that are nowhere in the labels."""
        return Scores.from_confusion(self.counts).iou

    @property
    def miou(self) -> float:
        """The mean over the classes in the labels; NaN without labels."""
        return Scores.from_confusion(self.counts).miou


@dataclass(frozen=True)
class AccuracyReport:
    """A variant compared with the FP32 graph. `loss` in points of mIoU, None without labels."""

    reference: Evaluation
    variant: Evaluation

    @property
    def agreement(self) -> float:
        """The share of pixels, over all images, that have the same class in both."""
        pairs = list(zip(self.reference.maps, self.variant.maps, strict=True))
        same = sum(int((a == b).sum()) for a, b in pairs)
        return same / sum(a.size for a, _ in pairs)

    @property
    def loss(self) -> float | None:
        if not self.reference.counts.any():
            return None
        return 100 * (self.reference.miou - self.variant.miou)

    def __str__(self) -> str:
        text = f"{self.agreement:.3%} of pixels keep their class"
        if self.loss is None:
            return f"{text} (no labels: mIoU not measured)"
        return (
            f"mIoU {100 * self.variant.miou:.2f}, FP32 {100 * self.reference.miou:.2f} "
            f"(loss {self.loss:+.2f} points); {text}"
        )

    def as_json(self) -> dict[str, Any]:
        """Plain values, percent; only the classes that are in the labels."""
        report: dict[str, Any] = {
            "images": len(self.variant.maps),
            "pixel_agreement": 100 * self.agreement,
        }
        if self.loss is None:
            return report
        names = contract.class_names()
        report |= {
            "miou": 100 * self.variant.miou,
            "miou_fp32": 100 * self.reference.miou,
            "loss": self.loss,
            "classes": {
                names[class_id]: {
                    "iou": 100 * float(self.variant.iou[class_id]),
                    "iou_fp32": 100 * float(self.reference.iou[class_id]),
                }
                for class_id in np.flatnonzero(~np.isnan(self.reference.iou))
            },
        }
        return report


def evaluate(model: onnx.ModelProto, examples: Sequence[Example]) -> Evaluation:
    """Run an FP32 graph (a typed one after emulate_fp16) on examples, one at a time."""
    session = open_session(model)

    def answer(images: Images) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
        class_ids, masks = session.run(
            [contract.CLASS_IDS, contract.MASKS], {contract.IMAGE: images}
        )
        return class_ids, masks

    return evaluate_answers(answer, session.get_inputs()[0].shape[1], examples)


def evaluate_answers(answer: Answer, side: int, examples: Sequence[Example]) -> Evaluation:
    """Run `answer`, which takes images of size `side`, on examples, one at a time."""
    maps, counts = [], no_counts()
    for example in examples:
        fitted, geometry = fit(example.image, side)
        class_ids, masks = answer(fitted[None])
        maps.append(read_back(class_ids[0], masks[0], geometry))
        if example.labels is not None:
            height, width = maps[-1].shape
            truth = label_array(example.labels, read_labels(example.labels, (width, height)))
            counts += confusion_matrix(truth, maps[-1])
    return Evaluation(maps, counts)


def images_in(folder: Path, most: int) -> list[Path]:
    """At most `most` images of a folder and the folders in it, evenly spread over their names."""
    paths = image_files(folder)
    if not paths:
        raise ImageError(
            f"{folder} must hold images ({', '.join(sorted(SUFFIXES))}), but there are none"
        )
    return spread(paths, most)


def labelled_in(folder: Path, split: str, most: int) -> list[Example]:
    """At most `most` examples of a folder of the ADE20K layout, evenly spread over their names."""
    pairs = spread(find_pairs(folder, split, spare_labels=True), most)
    return [Example(pair.image, pair.labels) for pair in pairs]


def spread(items: Sequence[Item], most: int) -> list[Item]:
    """At most `most` of the items, the same distance apart."""
    chosen = min(most, len(items))
    return [items[number * len(items) // chosen] for number in range(chosen)]
