"""What an image contains: `Detections`, in the field names and the JSON of the Focoos SDK."""

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
from .table import format_table, short_label


@dataclass(frozen=True)
class Detection:
    """One segment of the image.

    bbox: (x1, y1, x2, y2) in pixels of the upright image, x2 and y2 exclusive.
    conf: score, 0 to 1. cls_id: 0-based class. label: the class's name.
    mask_png: the mask as it came; `mask` decodes it when first asked for.
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
            raise ValueError(f"bbox must be (x1, y1, x2, y2) with x1 <= x2, y1 <= y2: {self.bbox}")
        if not _is_number(self.conf) or not 0 <= self.conf <= 1:
            raise ValueError(f"conf must be between 0 and 1, got {self.conf!r}")
        if not isinstance(self.cls_id, int) or self.cls_id < 0:
            raise ValueError(f"cls_id must be 0 or a positive integer, got {self.cls_id!r}")
        if not isinstance(self.label, str) or not isinstance(self.mask_png, bytes):
            raise ValueError("label must be a string and mask_png bytes")

    @cached_property
    def mask(self) -> NDArray[np.bool_]:
        """(H, W) bool, the size of the upright image; read-only."""
        mask: NDArray[np.bool_] = decode_png(self.mask_png) != 0
        mask.setflags(write=False)
        return mask

    def to_dict(self) -> dict[str, Any]:
        """The wire form: plain values, the mask as base64 of its PNG."""
        return {
            "bbox": list(self.bbox),
            "conf": self.conf,
            "cls_id": self.cls_id,
            "label": self.label,
            "mask": base64.b64encode(self.mask_png).decode("ascii"),
        }

    @classmethod
    def from_dict(cls, wire: dict[str, Any]) -> "Detection":
        """The detection of a wire form; `ValueError` or `KeyError` if it is none."""
        mask_png = base64.b64decode(wire["mask"], validate=True)
        return cls(wire["bbox"], wire["conf"], wire["cls_id"], wire["label"], mask_png)


@dataclass(frozen=True, repr=False)
class Detections:
    """All segments of one image, as the server sent them: highest score first.

    latency: seconds each step took on the server, by step.
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
        found = ", ".join(f"{short_label(found.label)} {found.conf:.2f}" for found in self)
        return f"<Detections: {found or 'none'}>"

    def __str__(self) -> str:
        return format_table(self)

    def to_dict(self) -> dict[str, Any]:
        """The wire form: {"detections": [...], "latency": {...}}."""
        return {"detections": [found.to_dict() for found in self], "latency": dict(self.latency)}

    def to_json(self) -> str:
        """The wire form as text; `from_json` gives back an equal object."""
        return json.dumps(self.to_dict())

    @classmethod
    def from_json(cls, text: str | bytes) -> "Detections":
        """The detections of a wire form; `ValueError` with one sentence if it is none."""
        try:
            wire = json.loads(text)
            if not isinstance(wire["detections"], list) or not isinstance(wire["latency"], dict):
                raise ValueError("detections must be a list and latency an object")
            found = tuple(Detection.from_dict(each) for each in wire["detections"])
            return cls(found, wire["latency"])
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            reason = f"{error} is missing" if isinstance(error, KeyError) else error
            raise ValueError(f"not the JSON of detections: {reason}") from error

    def overlay(self, image: ImageInput) -> Image.Image:
        """The image (the one that was segmented), tinted, outlined and labelled; RGB."""
        return draw_overlay(upright_rgb(image), self.detections)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
