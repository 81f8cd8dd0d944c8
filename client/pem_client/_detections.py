"""The result: `Detections`, with the field names and the JSON of the Focoos SDK."""

import base64
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ._image import ImageInput, decode_png, upright_rgb
from ._overlay import draw_overlay

_HEADER = ("label", "score", "box (x1 y1 x2 y2)", "share")


@dataclass(frozen=True)
class Detection:
    """One segment of the image.

    bbox: (x1, y1, x2, y2) in pixels of the upright image, x2 and y2 exclusive.
    conf: score, 0 to 1. cls_id: 0-based class. label: the class's name.
    mask_png: the encoded mask; `mask` decodes it at first use.
    """

    bbox: tuple[float, float, float, float]
    conf: float
    cls_id: int
    label: str
    mask_png: bytes = field(repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "bbox", tuple(self.bbox))
        if len(self.bbox) != 4 or not all(map(_is_number, self.bbox)):
            raise ValueError(f"bbox must be four finite numbers, got {self.bbox}")
        if self.bbox[0] > self.bbox[2] or self.bbox[1] > self.bbox[3]:
            raise ValueError(f"bbox must have x1 <= x2 and y1 <= y2, got {self.bbox}")
        if not _is_number(self.conf) or not 0 <= self.conf <= 1:
            raise ValueError(f"conf must be between 0 and 1, got {self.conf!r}")
        if not isinstance(self.cls_id, int) or self.cls_id < 0:
            raise ValueError(f"cls_id must be an integer of at least 0, got {self.cls_id!r}")
        if not isinstance(self.label, str) or not isinstance(self.mask_png, bytes):
            raise ValueError("label must be a string and mask_png bytes")

    @cached_property
    def mask(self) -> NDArray[np.bool_]:
        """(H, W) bool, the size of the upright image; read-only."""
        mask: NDArray[np.bool_] = decode_png(self.mask_png) != 0
        mask.setflags(write=False)
        return mask

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, the mask as base64 of its PNG."""
        return {
            "bbox": list(self.bbox),
            "conf": self.conf,
            "cls_id": self.cls_id,
            "label": self.label,
            "mask": base64.b64encode(self.mask_png).decode("ascii"),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Detection":
        """The inverse of `to_dict`; `ValueError` or `KeyError` for other values."""
        mask_png = base64.b64decode(values["mask"], validate=True)
        return cls(values["bbox"], values["conf"], values["cls_id"], values["label"], mask_png)


@dataclass(frozen=True, repr=False)
class Detections:
    """All segments of one image, in the server's order: highest score first.

    latency: seconds on the server, by step.
    """

    detections: tuple[Detection, ...]
    latency: dict[str, float]

    def __post_init__(self) -> None:
        object.__setattr__(self, "detections", tuple(self.detections))
        object.__setattr__(self, "latency", dict(self.latency))
        if not all(isinstance(detection, Detection) for detection in self.detections):
            raise ValueError("detections must be Detection objects")
        if not all(map(_is_number, self.latency.values())):
            raise ValueError(f"latency must hold seconds by step, got {self.latency}")

    def __len__(self) -> int:
        return len(self.detections)

    def __iter__(self) -> Iterator[Detection]:
        return iter(self.detections)

    def __getitem__(self, index: int) -> Detection:
        return self.detections[index]

    def __repr__(self) -> str:
        captions = ", ".join(map(_caption, self))
        return f"<Detections: {captions or 'none'}>"

    def __str__(self) -> str:
        return format_table(self)

    def to_dict(self) -> dict[str, Any]:
        """{"detections": [...], "latency": {...}}, as the server sends it."""
        return {"detections": [item.to_dict() for item in self], "latency": dict(self.latency)}

    def to_json(self) -> str:
        """The JSON of `to_dict`; `from_json` restores an equal object."""
        return json.dumps(self.to_dict())

    @classmethod
    def from_json(cls, text: str | bytes) -> "Detections":
        """The inverse of `to_json`; `ValueError` with one sentence for other text."""
        try:
            values = json.loads(text)
            items, latency = values["detections"], values["latency"]
            if not isinstance(items, list) or not isinstance(latency, dict):
                raise ValueError("detections must be a list and latency an object")
            return cls(tuple(map(Detection.from_dict, items)), latency)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            reason = f"{error} is missing" if isinstance(error, KeyError) else error
            raise ValueError(f"not the JSON of Detections: {reason}") from error

    def overlay(self, image: ImageInput) -> Image.Image:
        """The segmented image with each segment tinted, outlined and labeled; RGB."""
        ranked = sorted(self, key=lambda item: item.conf, reverse=True)
        return draw_overlay(
            upright_rgb(image),
            masks=[item.mask for item in ranked],
            class_ids=[item.cls_id for item in ranked],
            captions=[_caption(item) for item in ranked],
        )


def format_table(detections: Detections) -> str:
    """One line per segment: label, score, box in pixels, share of the image; then the latency.

    Labels with synonyms ("road, route") are shortened to the first, as in the overlay.
    """
    rows = [_HEADER, *map(_row, detections)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        f"{label:<{widths[0]}}  {score:>{widths[1]}}  {box:<{widths[2]}}  {share:>{widths[3]}}"
        for label, score, box, share in rows
    ]
    if not len(detections):
        lines = ["no segment scores above the threshold"]
    if latency := detections.latency:
        lines.append(", ".join(f"{step} {time * 1000:.1f} ms" for step, time in latency.items()))
    return "\n".join(lines)


def _row(item: Detection) -> tuple[str, str, str, str]:
    box = " ".join(f"{round(edge):4d}" for edge in item.bbox)
    return _short_label(item), f"{item.conf:.3f}", box, f"{item.mask.mean():.1%}"


def _caption(item: Detection) -> str:
    return f"{_short_label(item)} {item.conf:.2f}"


def _short_label(item: Detection) -> str:
    return item.label.partition(",")[0]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
