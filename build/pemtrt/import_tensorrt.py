"""Import TensorRT, late, and from whichever of its packages is there."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

from pemtrt.errors import EngineError

REMEDY = (
    "in the serving image, pip install --no-deps tensorrt-cu13-bindings==VERSION with the version "
    "that python -m pemtrt.gpu_info --tensorrt prints; these bindings use the server's own "
    "libnvinfer, where the package tensorrt brings another"
)


def load_tensorrt() -> ModuleType:
    """The module `tensorrt`; EngineError with the remedy where there is none.

    NVIDIA's package of the bindings alone calls itself tensorrt_bindings.
    """
    reasons = []
    for name in ("tensorrt", "tensorrt_bindings"):
        try:
            module = importlib.import_module(name)
        except ImportError as error:
            reasons.append(str(error))
        else:
            sys.modules["tensorrt"] = module
            return module
    raise EngineError(
        "Building an engine needs TensorRT's Python bindings, and they cannot be imported "
        f"({'; '.join(reasons)}): {REMEDY}."
    )
