"""The network on the processor: OpenVINO, ONNX Runtime, PyTorch."""

import numpy as np
import onnxruntime
import openvino
import torch

from pemseg import ServingPem, contract, load_network

from .forms import Absent, Answers, Form, Network, Pictures, Sources


def forms(sources: Sources) -> list[Form | Absent]:
    """ONNX Runtime comes first of them: it is what the others are compared with."""
    found: list[Form | Absent] = [
        Form("ONNX Runtime FP32, CPU", lambda: onnx_runtime(sources)),
        Form("OpenVINO FP32, CPU", lambda: openvino_form(sources, "f32")),
    ]
    name = "OpenVINO BF16, CPU"
    if "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        found.append(Form(name, lambda: openvino_form(sources, "bf16")))
    else:
        found.append(Absent(name, "needs a processor that computes in BF16"))
    found.append(Form("PyTorch FP32, CPU", lambda: pytorch(sources)))
    return found


def onnx_runtime(sources: Sources) -> Network:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = sources.threads
    # Its threads would otherwise go on spinning into the next form's turn.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(
        sources.graph, options, providers=["CPUExecutionProvider"]
    )

    def answer(pictures: Pictures) -> Answers:
        class_ids, scores, masks = session.run(list(contract.OUTPUTS), {contract.IMAGE: pictures})
        return class_ids, scores, masks

    return answer


def openvino_form(sources: Sources, precision: str) -> Network:
    """With the settings of the served step, but for the precision: f32 or bf16."""
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": precision}
    if sources.threads:
        settings["INFERENCE_NUM_THREADS"] = str(sources.threads)
    compiled = openvino.Core().compile_model(sources.graph, "CPU", settings)
    request = compiled.create_infer_request()

    def answer(pictures: Pictures) -> Answers:
        answers = request.infer({contract.IMAGE: pictures})
        class_ids, scores, masks = (np.array(answers[name]) for name in contract.OUTPUTS)
        return class_ids, scores, masks

    return answer


def pytorch(sources: Sources) -> Network:
    if sources.threads:
        torch.set_num_threads(sources.threads)
    size = contract.IMAGE_SIZE
    network = ServingPem(load_network(sources.weights), size, size).eval()

    def answer(pictures: Pictures) -> Answers:
        with torch.inference_mode():
            class_ids, scores, masks = network(torch.from_numpy(pictures))
        return class_ids.numpy(), scores.numpy(), masks.numpy()

    return answer
