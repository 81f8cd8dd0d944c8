"""The server's own steps, to evaluate a graph as it is served.

They are loaded from the model repository by their paths, since models are in no package; so an
image is decoded, turned, fitted and mapped back here exactly as there.
"""

import importlib.util
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pem_server.checkout import MODEL_REPOSITORY

LIMIT = 1 << 30  # bytes, and pixels: these images are the user's own

Labels = NDArray[np.uint8]


class ImageError(ValueError):
    """An image that cannot be used; the message names it."""


def fit(path: Path, side: int) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """The image as the network gets it, (S, S, 3), and its geometry (4,)."""
    step: Any = _step("pem_preprocess/1/preprocessing.py")
    try:
        fitted, geometry = step.prepare([path.read_bytes()], step.Limits(LIMIT, LIMIT), side)
    except step.ImageError as error:
        raise ImageError(f"{path}: {error}") from None
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


def open_network(graph: Path, precision: str, threads: int = 0) -> Any:
    """The network step's own `Network` on `graph`; "int8" takes the ranges beside it.

    ValueError if the CPU or the graph lacks what the precision needs.
    """
    step: Any = _step("pem_network/1/openvino_network.py")
    return step.Network(graph, threads, precision)


def has_int8() -> bool:
    """Whether the network step would compute in INT8 on this CPU."""
    return bool(this_processor().int8)


def this_processor() -> Any:
    """The network step's facts of this CPU: `int8` and `bf16`, each a bool."""
    step: Any = _step("pem_network/1/openvino_network.py")
    return step.detect_cpu(step.openvino_core())


def openvino_core() -> Any:
    """The one `openvino.Core` of this process; the network step explains why."""
    step: Any = _step("pem_network/1/openvino_network.py")
    return step.openvino_core()


@cache
def _step(path: str) -> ModuleType:
    file = MODEL_REPOSITORY / path
    name = f"pemseg_step_{file.stem}"
    # As a package, so that it finds the modules beside it.
    spec = importlib.util.spec_from_file_location(
        name, file, submodule_search_locations=[str(file.parent)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
