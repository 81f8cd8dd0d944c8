"""The network on the CPU: OpenVINO as it is served, ONNX Runtime, PyTorch."""

import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from pemexport import contract
from pemexport.repository_steps import has_int8, open_network, this_processor
from pemexport.serving import ServingPem
from pemseg import load_network

from .backends import (
    NAIVE,
    REFERENCE,
    SERVED_BACKENDS,
    Answers,
    Backend,
    Images,
    Network,
    Sources,
    Unavailable,
)
from .cli import BenchError
from .exported_graphs import export_naive


def backends(sources: Sources) -> list[Backend | Unavailable]:
    """The reference comes first."""
    return [
        Backend(REFERENCE, lambda: open_onnxruntime(sources.graph, sources.threads)),
        Backend(NAIVE, lambda: open_naive(sources)),
        *(_openvino(sources, name, precision) for name, precision in SERVED_BACKENDS.items()),
        Backend("PyTorch FP32, CPU", lambda: open_pytorch(sources)),
    ]


def _openvino(sources: Sources, name: str, precision: str) -> Backend | Unavailable:
    reason = _missing(sources, precision)
    if reason is not None:
        return Unavailable(name, reason)
    return Backend(name, lambda: open_openvino(sources, precision))


def _missing(sources: Sources, precision: str) -> str | None:
    if precision == "int8":
        if not has_int8():
            return "needs a CPU with INT8 dot products (VNNI or AMX)"
        ranges = contract.ranges_path(sources.graph)
        if not ranges.is_file():
            return f"needs {ranges}; make it with ./run export --calibration IMAGES"
    if precision == "bf16" and not this_processor().bf16:
        return "needs a CPU with BF16 arithmetic"
    return None


def open_onnxruntime(graph: Path, threads: int) -> Network:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Otherwise its threads would keep spinning into the next backend's turn.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def infer(images: Images) -> Answers:
        class_ids, scores, masks = session.run(list(contract.OUTPUTS), {contract.IMAGE: images})
        return class_ids, scores, masks

    return infer


def open_naive(sources: Sources) -> Network:
    with tempfile.TemporaryDirectory() as folder:
        graph = export_naive(load_network(sources.weights), Path(folder) / "naive.onnx")
        return open_onnxruntime(graph, sources.threads)


def open_openvino(sources: Sources, precision: str) -> Network:
    """The served step's own network."""
    try:
        network = open_network(sources.graph, precision, sources.threads)
    except ValueError as error:
        raise BenchError(str(error)) from None

    def infer(images: Images) -> Answers:
        class_ids, scores, masks = (np.array(value) for value in network(images))
        return class_ids, scores, masks

    return infer


def open_pytorch(sources: Sources) -> Network:
    if sources.threads:
        torch.set_num_threads(sources.threads)
    size = contract.IMAGE_SIZE
    network = ServingPem(load_network(sources.weights), size, size).eval()

    def infer(images: Images) -> Answers:
        with torch.inference_mode():
            class_ids, scores, masks = network(torch.from_numpy(images))
        return class_ids.numpy(), scores.numpy(), masks.numpy()

    return infer
