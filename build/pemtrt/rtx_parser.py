"""NVIDIA's ONNX parser and ahead-of-time compiler, on a machine without a GPU.

They are those of TensorRT-RTX, whose packages need no driver. The nearest to a T4 that a CPU can
show, but not the TensorRT of the server: it has no FP32 matrix product for Turing, no NonZero, and
other kernels; that it compiles INT8 says that the graph is well formed. Speed is not shown.
"""

import importlib
import sys
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from pemtrt.build_options import BuildOptions
from pemtrt.manifest import EngineError

if TYPE_CHECKING:
    from pemtrt.tensorrt_build import WriteLine

PACKAGES = ("tensorrt-rtx-cu12-bindings", "tensorrt-rtx-cu12-libs")
LOCKED = "1.7.1.116"  # requirements/test.txt


def load_rtx() -> ModuleType:
    """TensorRT-RTX's bindings, which take the place of TensorRT's in this process. EngineError."""
    try:
        bindings = importlib.import_module("tensorrt_rtx_bindings")
    except ImportError as error:
        wheels = " ".join(f"{package}=={LOCKED}" for package in PACKAGES)
        raise EngineError(
            f"this needs NVIDIA's TensorRT-RTX (90 MB, no GPU), which cannot be imported: {error}; "
            f"install it into .venv: pip install --no-deps {wheels}"
        ) from error
    sys.modules["tensorrt"] = bindings
    return bindings


def rtx_version() -> str:
    return f"TensorRT-RTX {version(PACKAGES[0])}"


def parse_graph(graph: Path, write_line: "WriteLine", compile_for_t4: bool = False) -> int:
    """Parse a graph; bytes of the engine that is compiled from it for a T4, or 0.

    EngineError with NVIDIA's own reason if either fails.
    """
    trt: Any = load_rtx()
    from pemtrt import tensorrt_build  # late: it imports TensorRT

    log = tensorrt_build.Log(write_line)
    builder = trt.Builder(log)
    # Both must live until the engine is built.
    network, parser = tensorrt_build.parsed(builder, graph, log)
    if not compile_for_t4:
        return 0
    config = builder.create_builder_config()  # a timing cache would need a GPU
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM75, 0)
    config.add_optimization_profile(tensorrt_build.profile_of(builder, network, BuildOptions()))
    engine = builder.build_serialized_network(network, config)
    del parser
    if not engine:
        raise EngineError(tensorrt_build.failed(f"{graph} does not compile for a T4", log))
    return int(engine.nbytes)
