"""Where the FakeQuantize nodes are inserted, and what OpenVINO then computes."""

import json

import numpy as np
import openvino
import pytest
from onnx import TensorProto, helper, numpy_helper

SHA = "00ff"


@pytest.fixture
def int8_graph(load_model):
    return load_model("pem_network", "int8_graph")


@pytest.fixture
def graph(save_graph):
    """Two convolutions, concatenated for a third; the second reads the first."""
    random = np.random.default_rng(0)
    shapes = {"w1": (4, 3, 3, 3), "w2": (4, 4, 1, 1), "w3": (4, 8, 1, 1)}
    weights = {name: random.normal(size=shape) for name, shape in shapes.items()}
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], "one", pads=[1] * 4),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w2"], ["c"], "two"),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("Concat", ["b", "d"], ["e"], axis=1),
        helper.make_node("Conv", ["e", "w3"], ["y"], "three"),
    ]
    x, y = (("x", TensorProto.FLOAT, [1, 3, 8, 8]), ("y", TensorProto.FLOAT, [1, 4, 8, 8]))
    constants = [numpy_helper.from_array(w.astype(np.float32), n) for n, w in weights.items()]
    return openvino.Core().read_model(save_graph(nodes, [x], [y], constants, weights_sha256=SHA))


RANGES = {"x": (-1.01, 1.0)} | dict.fromkeys("bde", (0.0, 12.0))


def ranges_file(tmp_path, **changes):
    path = tmp_path / "model.ranges.json"
    path.write_text(json.dumps({"weights_sha256": SHA, "ranges": RANGES} | changes))
    return path


def quantized_tensors(graph):
    """The input of each FakeQuantize."""
    nodes = graph.get_ordered_ops()
    return [n.input_value(0) for n in nodes if n.get_type_name() == "FakeQuantize"]


def test_ranges_are_read_and_those_of_another_graph_are_not(int8_graph, graph, tmp_path):
    assert int8_graph.read_ranges(ranges_file(tmp_path), graph) == (RANGES, "")
    wrong = {"weights": {"weights_sha256": "11"}, " q": {"ranges": {"q": [0, 1]}}}
    for reason, changes in wrong.items():
        ranges, why = int8_graph.read_ranges(ranges_file(tmp_path, **changes), graph)
        assert ranges == {}
        assert "model.ranges.json" in why
        assert reason in why
    parameter = openvino.opset13.parameter([1], np.float32)
    nameless = openvino.Model([openvino.opset13.relu(parameter)], [parameter])
    assert int8_graph.read_ranges(ranges_file(tmp_path), nameless)[0] == {}


def test_each_tensor_is_quantized_once_and_a_concatenation_not_again(int8_graph, graph):
    assert int8_graph.quantize_graph(graph, RANGES) == 3
    names = [name for source in quantized_tensors(graph) for name in source.get_names()]
    assert sorted(set(names) & RANGES.keys()) == ["b", "d", "x"]
    assert len(quantized_tensors(graph)) == 6  # these and three weights


def test_a_layer_of_no_quantized_tensor_stays_in_floats(int8_graph, graph):
    assert int8_graph.quantize_graph(graph, {"b": (0.0, 12.0)}) == 1
    layers = [n for n in graph.get_ordered_ops() if n.get_type_name() == "Convolution"]
    kinds = [layer.input_value(0).get_node().get_type_name() for layer in layers]
    assert kinds == ["Parameter", "FakeQuantize", "Concat"]
    assert len(quantized_tensors(graph)) == 2


def test_int8_is_close_to_floats_and_not_the_same(int8_graph, graph):
    x = np.random.default_rng(1).uniform(-1, 1, (1, 3, 8, 8)).astype(np.float32)
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    exact = openvino.compile_model(graph, "CPU", settings)(x)[0]
    int8_graph.quantize_graph(graph, RANGES)
    int8 = openvino.compile_model(graph, "CPU", settings)(x)[0]
    assert 0 < np.abs(int8 - exact).max() < 0.05 * np.abs(exact).max()
