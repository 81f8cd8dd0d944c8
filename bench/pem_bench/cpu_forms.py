"""The network on the processor: OpenVINO as it is served, ONNX Runtime, PyTorch."""

import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from pemexport import contract
from pemexport.repository_steps import has_int8, open_network, this_processor
from pemexport.serving import ServingPem
from pemseg import load_network

from .cli import BenchError
from .forms import NAIVE, REFERENCE, SERVED_FORMS, Absent, Answers, Form, Images, Network, Sources
from .naive_graph import naive_of


def forms(sources: Sources) -> list[Form | Absent]:
    """ONNX Runtime comes first of them: it is what the others are compared with."""
    return [
        Form(REFERENCE, lambda: onnx_runtime(sources.graph, sources.threads)),
        Form(NAIVE, lambda: naive(sources)),
        *(_openvino(sources, name, precision) for name, precision in SERVED_FORMS.items()),
        Form("PyTorch FP32, CPU", lambda: pytorch(sources)),
    ]


def _openvino(sources: Sources, name: str, precision: str) -> Form | Absent:
    reason = _why_not(sources, precision)
    if reason is not None:
        return Absent(name, reason)
    return Form(name, lambda: openvino_form(sources, precision))


def _why_not(sources: Sources, precision: str) -> str | None:
    if precision == "int8":
        if not has_int8():
            return "needs a processor with INT8 dot products"
        ranges = contract.ranges_path(sources.graph)
        if not ranges.is_file():
            return f"needs {ranges}; make it with ./run export --calibration IMAGES"
    if precision == "bf16" and not this_processor().bf16:
        return "needs a processor that computes in BF16"
    return None


def onnx_runtime(graph: Path, threads: int) -> Network:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Its threads would otherwise go on spinning into the next form's turn.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def answer(images: Images) -> Answers:
        class_ids, scores, masks = session.run(list(contract.OUTPUTS), {contract.IMAGE: images})
        return class_ids, scores, masks

    return answer


def naive(sources: Sources) -> Network:
    with tempfile.TemporaryDirectory() as folder:
        return onnx_runtime(naive_of(sources.weights, Path(folder)), sources.threads)


def openvino_form(sources: Sources, precision: str) -> Network:
    """The served step's own network."""
    try:
        network = open_network(sources.graph, precision, sources.threads)
    except ValueError as error:
        raise BenchError(str(error)) from None

    def answer(images: Images) -> Answers:
        class_ids, scores, masks = (np.array(value) for value in network(images))
        return class_ids, scores, masks

    return answer


def pytorch(sources: Sources) -> Network:
    if sources.threads:
        torch.set_num_threads(sources.threads)
    size = contract.IMAGE_SIZE
    network = ServingPem(load_network(sources.weights), size, size).eval()

    def answer(images: Images) -> Answers:
        with torch.inference_mode():
            class_ids, scores, masks = network(torch.from_numpy(images))
        return class_ids.numpy(), scores.numpy(), masks.numpy()

    return answer
