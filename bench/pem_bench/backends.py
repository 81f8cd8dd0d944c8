"""What a backend of the network is: its name, how to open it, or why this machine has none.

An open backend answers a batch of images (B, H, W, 3) uint8 with class_ids (B, Q), scores (B, Q)
and masks (B, H, W), from host memory to host memory.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pemexport import contract

REFERENCE = "ONNX Runtime FP32, CPU"  # the others' answers are compared with its
NAIVE = "ONNX Runtime FP32, naive graph, CPU"  # the others' speed is compared with its
# Of the served step, with their precisions, fastest first: the default configuration serves the
# first one that a machine runs.
SERVED_BACKENDS = {
    "OpenVINO INT8, CPU": "int8",
    "OpenVINO BF16, CPU": "bf16",
    "OpenVINO FP32, CPU": "f32",
}

Images = NDArray[np.uint8]
Answers = tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.uint8]]
Network = Callable[[Images], Answers]


@dataclass(frozen=True)
class Backend:
    """One that runs here; `open` loads the network, which may take a while."""

    name: str
    open: Callable[[], Network]


@dataclass(frozen=True)
class Unavailable:
    """A backend that does not run here; `reason` continues a sentence that starts with `name`."""

    name: str
    reason: str


@dataclass(frozen=True)
class Sources:
    """The files that backends load. `threads` 0 takes all cores."""

    graph: Path = contract.ONNX_PATH
    weights: Path = contract.WEIGHTS_PATH
    threads: int = 0


@dataclass(frozen=True)
class Agreement:
    """How close one backend's answers are to another's."""

    class_ids: float  # share that is equal
    scores: float  # largest difference
    masks: float  # share of pixels that is equal


def agreement(answers: Answers, reference: Answers) -> Agreement:
    return Agreement(
        class_ids=float((answers[0] == reference[0]).mean()),
        scores=float(np.abs(answers[1] - reference[1]).max()),
        masks=float((answers[2] == reference[2]).mean()),
    )
