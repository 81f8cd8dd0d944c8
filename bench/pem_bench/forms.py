"""The forms in which the network can run: which this machine has, and why not the others.

A form, once opened, answers a batch of images (B, H, W, 3) uint8 with class_ids (B, Q), scores
(B, Q) and masks (B, H, W), from memory of the processor to memory of the processor.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pemexport import contract

REFERENCE = "ONNX Runtime FP32, CPU"  # what the others' answers are compared with
NAIVE = "ONNX Runtime FP32, naive graph, CPU"  # what the others' speed is compared with
# Of the step that is served, each with its precision, fastest first: the first one that runs on a
# machine is what the default configuration serves there.
SERVED_FORMS = {
    "OpenVINO INT8, CPU": "int8",
    "OpenVINO BF16, CPU": "bf16",
    "OpenVINO FP32, CPU": "f32",
}

ENGINE_PATH = contract.ONNX_PATH.with_suffix(".plan")

Images = NDArray[np.uint8]
Answers = tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.uint8]]
Network = Callable[[Images], Answers]


@dataclass(frozen=True)
class Form:
    """One that runs here; `open` loads it and takes its time."""

    name: str
    open: Callable[[], Network]


@dataclass(frozen=True)
class Absent:
    """One that does not run here, and why: the end of a sentence that begins with its name."""

    name: str
    reason: str


@dataclass(frozen=True)
class Sources:
    """The files the forms are made from. `threads` 0 takes all cores."""

    graph: Path = contract.ONNX_PATH
    weights: Path = contract.WEIGHTS_PATH
    engine: Path = ENGINE_PATH
    threads: int = 0


def find_forms(sources: Sources) -> list[Form | Absent]:
    """Every form, fastest kind of device first."""
    from . import cpu_forms, cuda_forms, tensorrt_forms  # each brings a runtime along

    return [
        *tensorrt_forms.forms(sources),
        *cuda_forms.forms(sources),
        *cpu_forms.forms(sources),
    ]


@dataclass(frozen=True)
class Agreement:
    """How far one form's answers are from another's."""

    class_ids: float  # share that is equal
    scores: float  # largest difference
    masks: float  # share of pixels that is equal


def agreement(answers: Answers, reference: Answers) -> Agreement:
    return Agreement(
        class_ids=float((answers[0] == reference[0]).mean()),
        scores=float(np.abs(answers[1] - reference[1]).max()),
        masks=float((answers[2] == reference[2]).mean()),
    )
