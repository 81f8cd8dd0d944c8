"""Which backends run here, FP16 against FP32, the graphs that are compared, and the peak."""

from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from pem_bench import backends_cpu, backends_cuda, matrix_peak
from pem_bench.backends import NAIVE, REFERENCE, SERVED_BACKENDS, Backend, Sources, agreement
from pem_bench.engine import find_backends
from pem_bench.exported_graphs import export_naive
from pemexport import contract
from pemexport.serving import ServingPem
from pemseg import Pem
from pemseg.inference import card_outputs

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")


def test_a_backend_is_available_or_says_what_it_needs() -> None:
    found = find_backends(Sources())
    assert len({backend.name for backend in found}) == len(found) == 7
    for backend in found:
        assert isinstance(backend, Backend) or backend.reason.startswith("needs ")
    available = {backend.name for backend in found if isinstance(backend, Backend)}
    assert {REFERENCE, NAIVE, "OpenVINO FP32, CPU"} <= available
    assert SERVED_BACKENDS.keys() <= {backend.name for backend in found}


def test_int8_needs_processor_and_ranges(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def reason(sources: Sources, *, has_int8: bool = True) -> str:
        monkeypatch.setattr(backends_cpu, "has_int8", lambda: has_int8)
        found = next(b for b in backends_cpu.backends(sources) if "INT8" in b.name)
        return getattr(found, "reason", "available")

    assert reason(Sources()) == "available"
    assert "./run export --calibration" in reason(Sources(graph=tmp_path / "model.onnx"))
    assert "VNNI" in reason(Sources(), has_int8=False)


def test_each_batch_size_is_prepared_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends_cuda, "DEVICE", "cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert [type(backend) for backend in backends_cuda.backends(Sources())] == [Backend]

    def compute(image: torch.Tensor) -> backends_cuda.Launch:
        return lambda: (image.sum(dim=(1, 2, 3)), image.float(), image[..., 1])

    prepare = Mock(side_effect=compute)
    network = backends_cuda.for_each_batch_size(prepare)
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), np.uint8)
    for batch in (images[:1], images, images[::-1], images[1:2]):
        class_ids, _, masks = network(batch)
        np.testing.assert_array_equal(class_ids, batch.sum(axis=(1, 2, 3)))
        np.testing.assert_array_equal(masks, batch[..., 1])
    assert [len(call.args[0]) for call in prepare.call_args_list] == [1, 3]


def test_half_precision_answers_nearly_the_same(tiny_network: Callable[..., Pem]) -> None:
    serving = ServingPem(tiny_network(seed=24), 64, 96).eval()
    before = {name: value.clone() for name, value in serving.state_dict().items()}
    random = torch.Generator().manual_seed(1)
    blocks = torch.randint(0, 256, (2, 8, 12, 3), generator=random, dtype=torch.uint8)
    images = blocks.repeat_interleave(8, 1).repeat_interleave(8, 2)
    network = backends_cuda.half_precision(serving).eval()
    with torch.inference_mode():
        half, single = network(images), serving(images)
    assert [value.dtype for value in half] == [value.dtype for value in single]
    found = agreement(*(tuple(value.numpy() for value in values) for values in (half, single)))
    assert found.class_ids > 0.9
    assert found.scores < 0.01
    assert found.masks > 0.98
    assert len(single[2].unique()) > 2  # or the agreement of masks would mean nothing
    assert all(torch.equal(value, before[name]) for name, value in serving.state_dict().items())
    convolution = next(m for m in network.backbone.modules() if hasattr(m, "scale"))
    assert convolution.weight.dtype == torch.float16


def test_the_naive_graph_answers_as_card(tiny_network: Callable[..., Pem], tmp_path: Path) -> None:
    network = tiny_network(seed=3)
    path = export_naive(network, tmp_path / "naive.onnx", side=64)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    images = np.random.default_rng(0).integers(0, 256, (3, 64, 64, 3), np.uint8)
    class_ids, scores, masks = session.run(list(contract.OUTPUTS), {contract.IMAGE: images})
    with torch.inference_mode():
        prediction = network(torch.from_numpy(images).permute(0, 3, 1, 2))
        expected = card_outputs(prediction, (64, 64))
    assert (class_ids.dtype, scores.dtype, masks.dtype) == (np.int32, np.float32, np.uint8)
    np.testing.assert_array_equal(class_ids, expected[0])
    np.testing.assert_allclose(scores, expected[1], atol=1e-5)
    assert (masks == expected[2].numpy()).mean() > 0.999
    assert any(node.op_type == "ArgMax" for node in onnx.load(path).graph.node)


@pytest.mark.parametrize("job", list(matrix_peak.JOBS))
def test_a_job_of_the_peak_counts_its_arithmetic(job: str) -> None:
    model, flop = matrix_peak.JOBS[job](True)
    layers = [n for n in model.get_ordered_ops() if n.get_type_name() in ("MatMul", "Convolution")]
    axis = 1 if job == "matrix products" else 0  # of the outputs in the weights
    inputs = [np.prod(n.input_value(1).shape) // n.input_value(1).shape[axis] for n in layers]
    outputs = [np.prod(n.output(0).shape) for n in layers]
    assert 2 * np.dot(inputs, outputs) == flop
    rounded = [n for n in model.get_ordered_ops() if n.get_type_name() == "FakeQuantize"]
    assert len(rounded) == 2 * len(layers)
