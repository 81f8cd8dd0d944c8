"""The unstable TopK still answers what ArgMax promises: the first of the greatest values."""

import numpy as np
import openvino
import pytest
from onnx import TensorProto, helper
from openvino import opset13


@pytest.fixture
def unstable_topk(load_model):
    return load_model("pem_network", "unstable_topk")


@pytest.fixture
def graph(save_graph, axis, batch):
    node = helper.make_node("ArgMax", ["x"], ["y"], axis=axis, keepdims=1)
    x, y = ("x", TensorProto.FLOAT, [batch, 100, 16, 400]), ("y", TensorProto.INT64, None)
    return openvino.Core().read_model(save_graph([node], [x], [y]))


def stable_flags(graph):
    nodes = graph.get_ordered_ops()
    return [n.get_attributes()["stable"] for n in nodes if n.get_type_name() == "TopK"]


@pytest.mark.parametrize("axis", [1, 3])
@pytest.mark.parametrize("batch", ["batch", 2])
@pytest.mark.parametrize("levels", [1, 3, 1000])
def test_the_first_of_equal_values_is_taken(unstable_topk, graph, axis, batch, levels):
    x = np.random.default_rng(0).integers(0, levels, (2, 100, 16, 400)).astype(np.float32)
    assert stable_flags(graph) == [True]
    unstable_topk.allow_unstable_topk(graph)
    assert stable_flags(graph) == [batch == 2]  # a fixed batch size needs it
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    first = openvino.compile_model(graph, "CPU", settings)(x)[0]
    np.testing.assert_array_equal(first, x.argmax(axis=axis, keepdims=True))


def test_a_topk_of_several_stays_stable(unstable_topk):
    x, two = opset13.parameter([-1, 8], np.float32), opset13.constant(np.int64(2))
    several = opset13.topk(x, two, 1, "max", "value", stable=True)
    graph = openvino.Model(several.outputs(), [x])
    unstable_topk.allow_unstable_topk(graph)
    assert stable_flags(graph) == [True]
