"""The naive graph, the machine's own peak, and what is said of a form beside both."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from pem_bench import matrix_peak
from pem_bench.comparison import comparison_text, standings
from pem_bench.forms import NAIVE
from pem_bench.naive_graph import export_naive
from pem_bench.report import Result
from pem_bench.timing import Spread
from pemexport import contract
from pemseg import Pem
from pemseg.inference import card_outputs

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")


def result(form: str, batch: int, seconds: float) -> Result:
    return Result(form, batch, Spread(3, seconds, seconds, seconds))


RESULTS = [
    result(NAIVE, 1, 0.4),
    result(NAIVE, 2, 1.0),
    result("Served", 1, 0.1),
    result("Served", 2, 0.2),
    result("Served", 4, 0.4),
    result("Other", 1, 0.8),
]
PEAKS = {"Served": 40e9}


def test_a_form_is_compared_at_its_own_batch() -> None:
    found = standings(RESULTS, NAIVE, 2e9, PEAKS)
    rows = [(s.form, s.batch, s.times_naive, s.share_of_peak) for s in found]
    assert rows == [
        ("Served", 1, pytest.approx(4.0), pytest.approx(0.5)),
        ("Served", 2, pytest.approx(5.0), pytest.approx(0.5)),
        ("Served", 4, None, pytest.approx(0.5)),
        ("Other", 1, pytest.approx(0.5), None),
    ]


@pytest.mark.parametrize(("seconds", "verdict"), [(0.1, "reached"), (0.2, "MISSED")])
def test_the_text_says_whether_the_goal_is_reached(seconds: float, verdict: str) -> None:
    found = standings([RESULTS[0], result("Served", 1, seconds)], NAIVE, 2e9, PEAKS)
    text = comparison_text(found, PEAKS, "Served")
    assert f"{0.4 / seconds:.2f} times as fast as the naive graph (goal: 3, {verdict})" in text
    assert f"{0.05 / seconds:.0%} of 40 GFLOP/s" in text


def test_with_nothing_to_compare_nothing_is_said() -> None:
    assert comparison_text(standings([RESULTS[2]], NAIVE, 2e9, {}), {}, None) == ""


def test_the_naive_graph_enlarges_every_mask_and_answers_as_the_card(
    tiny_network: Callable[..., Pem], tmp_path: Path
) -> None:
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
    nodes = onnx.load(path).graph.node
    assert nodes[-1].op_type == "Cast"
    assert any(node.op_type == "ArgMax" for node in nodes)


@pytest.mark.parametrize("job", list(matrix_peak.JOBS))
def test_a_job_of_the_peak_counts_its_arithmetic(job: str) -> None:
    model, flop = matrix_peak.JOBS[job](True)
    layers = [n for n in model.get_ordered_ops() if n.get_type_name() in ("MatMul", "Convolution")]
    channels_out = {"MatMul": 1, "Convolution": 0}  # the axis of the weights
    each = []
    for layer in layers:
        weights = layer.input_value(1).shape
        inputs = int(np.prod(weights)) // weights[channels_out[layer.get_type_name()]]
        each.append(2 * inputs * int(np.prod(layer.output(0).shape)))
    assert sum(each) == flop
    rounded = [n for n in model.get_ordered_ops() if n.get_type_name() == "FakeQuantize"]
    assert len(rounded) == 2 * len(layers)


def test_the_peak_is_the_better_job(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = {"slow": lambda int8: ("model", 1), "fast": lambda int8: ("model", 5)}
    monkeypatch.setattr(matrix_peak, "JOBS", jobs)
    monkeypatch.setattr(matrix_peak, "_speed", lambda core, model, flop, settings: float(flop))
    assert matrix_peak.peak("int8") == 5.0
