"""Where the roundings stand that make INT8 of a float graph, and what OpenVINO then computes."""

import json

import numpy as np
import openvino
import pytest
from onnx import TensorProto, helper, numpy_helper, save

SHA = "00ff"


@pytest.fixture
def quantised(load_model):
    return load_model("pem_network", "quantised")


@pytest.fixture
def graph(tmp_path):
    """Two convolutions whose answers are put together for a third; the second reads half of it."""
    random = np.random.default_rng(0)
    weights = {
        "w1": random.normal(size=(4, 3, 3, 3)),
        "w2": random.normal(size=(4, 4, 1, 1)),
        "w3": random.normal(size=(4, 8, 1, 1)),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], "one", pads=[1] * 4),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w2"], ["c"], "two"),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("Concat", ["b", "d"], ["e"], axis=1),
        helper.make_node("Conv", ["e", "w3"], ["y"], "three"),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 8, 8])
    constants = [numpy_helper.from_array(w.astype(np.float32), n) for n, w in weights.items()]
    made = helper.make_graph(nodes, "three", [x], [y], constants)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    model.metadata_props.add(key="weights_sha256", value=SHA)
    save(model, tmp_path / "model.onnx")
    return openvino.Core().read_model(tmp_path / "model.onnx")


RANGES = {"x": (-1.01, 1.0), "b": (0.0, 12.0), "d": (0.0, 12.0), "e": (0.0, 12.0)}


def told(tmp_path, **changes):
    path = tmp_path / "model.ranges.json"
    path.write_text(json.dumps({"weights_sha256": SHA, "ranges": RANGES} | changes))
    return path


def roundings(graph):
    """What each FakeQuantize reads."""
    nodes = graph.get_ordered_ops()
    return [n.input_value(0) for n in nodes if n.get_type_name() == "FakeQuantize"]


def test_ranges_are_read(quantised, graph, tmp_path):
    assert quantised.read_ranges(told(tmp_path), graph) == (RANGES, "")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"weights_sha256": "11"}, "model.ranges.json was measured with other weights"),
        ({"ranges": {"q": [0, 1]}}, "model.ranges.json names a tensor that the graph has not, q"),
    ],
)
def test_ranges_of_another_graph_are_not_taken(quantised, graph, tmp_path, changes, reason):
    assert quantised.read_ranges(told(tmp_path, **changes), graph) == ({}, reason)


def test_a_graph_that_does_not_name_its_weights_takes_no_ranges(quantised, graph, tmp_path):
    parameter = openvino.opset13.parameter([1], np.float32)
    other = openvino.Model([openvino.opset13.relu(parameter)], [parameter])

    assert quantised.read_ranges(told(tmp_path), other)[0] == {}


def test_each_tensor_is_rounded_once_and_a_concatenation_not_again(quantised, graph):
    assert quantised.quantise(graph, RANGES) == 3

    names = [name for source in roundings(graph) for name in source.get_names()]
    assert sorted(set(names) & RANGES.keys()) == ["b", "d", "x"]
    assert len(roundings(graph)) == 6  # these and three weights


def test_what_reads_no_rounded_tensor_stays_as_it_is(quantised, graph):
    assert quantised.quantise(graph, {"b": (0.0, 12.0)}) == 1

    layers = [n for n in graph.get_ordered_ops() if n.get_type_name() == "Convolution"]
    kinds = [layer.input_value(0).get_node().get_type_name() for layer in layers]
    assert kinds == ["Parameter", "FakeQuantize", "Concat"]
    assert len(roundings(graph)) == 2


def test_the_answers_are_near_and_not_the_same(quantised, graph):
    x = np.random.default_rng(1).uniform(-1, 1, (1, 3, 8, 8)).astype(np.float32)
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    exact = openvino.compile_model(graph, "CPU", settings)(x)[0]

    quantised.quantise(graph, RANGES)
    found = openvino.compile_model(graph, "CPU", settings)(x)[0]

    assert 0 < np.abs(found - exact).max() < 0.05 * np.abs(exact).max()
