"""The server's own first and last step, for measuring what a graph answers in their midst.

They are loaded from the model repository by their paths, since models share no code with anything;
so a picture is decoded, turned, fitted and read back here exactly as there.
"""

import importlib.util
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import contract

MODELS = contract.ROOT / "model_repository"
LIMIT = 1 << 30  # bytes, and pixels: these pictures are the user's own

Labels = NDArray[np.uint8]


class PictureError(ValueError):
    """A picture that cannot be used; the message names it."""


def fit(path: Path, side: int) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """The picture as the network gets it, (S, S, 3), and its geometry (4,)."""
    step: Any = _step("pem_preprocess/1/preprocessing.py")
    try:
        fitted, geometry = step.prepare([path.read_bytes()], step.Limits(LIMIT, LIMIT), side)
    except step.ImageError as error:
        raise PictureError(f"{path}: {error}") from None
    return fitted[0], geometry[0]


def read_back(
    class_ids: NDArray[np.int32], masks: NDArray[np.uint8], geometry: NDArray[np.int32]
) -> Labels:
    """Class id + 1 for each pixel of the upright original: the server's answer at threshold 0.

    `class_ids` (Q,), `masks` (S, S) or at stride 2 or 4, `geometry` (4,).
    """
    step: Any = _step("pem_render/1/rendering.py")
    rows, columns = step.map_indices(masks, geometry, LIMIT)
    answer = (class_ids + 1).astype(np.uint8)[masks]
    return answer[rows[:, None], columns]


@cache
def _step(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"pemseg_step_{Path(path).stem}", MODELS / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
