"""The network as a TensorRT engine, launched plainly and as a CUDA graph."""

from typing import Any

import torch
from torch import Tensor

from pemexport import contract
from pemtrt.gpu_info import load_tensorrt
from pemtrt.manifest import EngineError

from .cuda_forms import Launch, for_each_size, recorded, why_no_gpu
from .forms import Absent, Form, Network, Sources

PLAIN, GRAPH = "TensorRT engine", "TensorRT engine, CUDA graph"


def forms(sources: Sources) -> list[Form | Absent]:
    reason = why_not(sources)
    if reason is not None:
        return [Absent(PLAIN, reason), Absent(GRAPH, reason)]
    return [
        Form(PLAIN, lambda: engine_form(sources, graph=False)),
        Form(GRAPH, lambda: engine_form(sources, graph=True)),
    ]


def why_not(sources: Sources) -> str | None:
    try:
        load_tensorrt()
    except EngineError:
        return "needs TensorRT's Python bindings, which are not installed"
    if not torch.cuda.is_available():  # its memory and streams are used
        return why_no_gpu()
    if not sources.engine.is_file():
        return f"needs an engine at {sources.engine}; make it with ./run engine"
    return None


def engine_form(sources: Sources, *, graph: bool) -> Network:
    trt: Any = load_tensorrt()
    logger = trt.Logger(trt.Logger.WARNING)
    engine = trt.Runtime(logger).deserialize_cuda_engine(sources.engine.read_bytes())
    if engine is None:
        raise OSError(
            f"{sources.engine} must be an engine of TensorRT {trt.__version__} for this GPU, and "
            "TensorRT refuses it; make it again with ./run engine"
        )

    def prepare(image: Tensor) -> Launch:
        launch = bound(engine, image)
        return recorded(launch) if graph else launch

    return for_each_size(prepare)


def bound(engine: Any, image: Tensor) -> Launch:
    """A context of its own for one batch size: a recorded graph keeps its addresses."""
    context = engine.create_execution_context()
    context.set_input_shape(contract.IMAGE, tuple(image.shape))
    context.set_tensor_address(contract.IMAGE, image.data_ptr())
    types = {contract.CLASS_IDS: torch.int32, contract.SCORES: torch.float32}
    outputs = []
    for name in contract.OUTPUTS:
        shape = tuple(context.get_tensor_shape(name))
        output = torch.empty(shape, dtype=types.get(name, torch.uint8), device=image.device)
        context.set_tensor_address(name, output.data_ptr())
        outputs.append(output)

    def launch() -> tuple[Tensor, ...]:
        if not context.execute_async_v3(torch.cuda.current_stream().cuda_stream):
            raise OSError("the engine must run, and TensorRT says that it did not")
        return tuple(outputs)

    return launch
