"""Example detections, and a server that is a Python object."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pem_client import Detection, Detections


@pytest.fixture
def png() -> Callable[[Any], bytes]:
    """Encode an array as PNG: bool as 1 bit, uint8 as gray."""

    def encode(values: NDArray[Any]) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(values).save(buffer, format="PNG")
        return buffer.getvalue()

    return encode


@pytest.fixture
def street(png: Callable[[Any], bytes]) -> Detections:
    """An image of 40 x 60 pixels: sky over the upper half, road on the left of the lower one."""
    sky, road = np.zeros((2, 40, 60), bool)
    sky[:20] = True
    road[20:, :30] = True
    return Detections(
        (
            Detection((0, 0, 60, 20), 0.9312500238418579, 2, "sky", png(sky)),
            Detection((0, 20, 30, 40), 0.75, 6, "road, route", png(road)),
        ),
        {"preprocess": 0.004, "inference": 0.031, "postprocess": 0.0035},
    )


@dataclass
class FakeTransport:
    """Returns `outputs`, or raises `error`; records its requests."""

    outputs: dict[str, NDArray[Any]]
    error: Exception | None = None
    models: Sequence[str] = ("fai-pem-m-ade",)
    requests: list[dict[str, Any]] = field(default_factory=list)
    closed: bool = False

    def infer(self, model: str, inputs: Any, outputs: Sequence[str]) -> dict[str, NDArray[Any]]:
        self.requests.append({"model": model, "outputs": list(outputs), **inputs})
        if self.error:
            raise self.error
        return self.outputs

    def is_model_ready(self, model: str) -> bool:
        return model in self.models

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def transport(street: Detections, png: Callable[[Any], bytes]) -> FakeTransport:
    """A server that returns the street for every image."""
    class_map = np.zeros((40, 60), np.uint8)
    class_map[:20], class_map[20:, :30] = 3, 7
    answers = {"detections": street.to_json().encode(), "segmentation": png(class_map)}
    return FakeTransport({name: np.array([[value]], object) for name, value in answers.items()})
