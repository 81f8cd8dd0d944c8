"""The unstable TopK still answers what ArgMax promises: the first of the greatest values."""

import numpy as np
import openvino
import pytest
from onnx import TensorProto, helper, save


@pytest.fixture
def unstable_topk(load_model):
    return load_model("pem_network", "unstable_topk")


@pytest.fixture(params=[1, 3])
def axis(request):
    return request.param


@pytest.fixture(params=["batch", 2])
def batch(request):
    return request.param


@pytest.fixture
def graph(tmp_path, axis, batch):
    node = helper.make_node("ArgMax", ["x"], ["y"], axis=axis, keepdims=1)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 100, 16, 400])
    y = helper.make_tensor_value_info("y", TensorProto.INT64, None)
    made = helper.make_graph([node], "greatest", [x], [y])
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    save(model, tmp_path / "greatest.onnx")
    return openvino.Core().read_model(tmp_path / "greatest.onnx")


def stable_flags(graph):
    nodes = graph.get_ordered_ops()
    return [n.get_attributes()["stable"] for n in nodes if n.get_type_name() == "TopK"]


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
    x = openvino.opset13.parameter([-1, 8], np.float32)
    several = openvino.opset13.topk(
        x, openvino.opset13.constant(np.int64(2)), 1, "max", "value", stable=True
    )
    graph = openvino.Model(several.outputs(), [x])
    unstable_topk.allow_unstable_topk(graph)
    assert stable_flags(graph) == [True]
