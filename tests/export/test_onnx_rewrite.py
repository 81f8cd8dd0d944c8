"""Constants of a graph are worked out where that makes it smaller."""

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper
from onnx_graphs import model_of, node

from pemexport.onnx_rewrite import fold_constants

FLOAT = TensorProto.FLOAT


def scaled_input() -> onnx.ModelProto:
    """y = x * (cast of a stored half-precision weight * scale) + column + row."""
    constants = {
        "half": np.full((100, 100), 0.5, np.float16),
        "scale": np.full((100, 1), 3, np.float32),
        "column": np.ones((100, 1), np.float32),
        "row": np.ones((1, 100), np.float32),
        "unread": np.ones(5, np.float32),
    }
    nodes = [node("wide = Cast half", to=FLOAT), node("weight = Mul wide scale")]
    lines = "table = Add column row; product = Mul x weight; y = Add product table"
    nodes += map(node, lines.split("; "))
    end = (FLOAT, ["n", 100, 100])
    return model_of(nodes, {"x": end}, {"y": end}, constants)


def test_a_weight_is_worked_out_and_a_table_stays_two_vectors() -> None:
    model = scaled_input()
    fold_constants(model.graph)
    onnx.checker.check_model(model, full_check=True)
    assert [n.op_type for n in model.graph.node] == ["Add", "Mul", "Add"]
    kept = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert kept.keys() == {"weight", "column", "row"}
    np.testing.assert_array_equal(kept["weight"], np.full((100, 100), 1.5, np.float32))


def test_large_constants_can_be_left_as_they_are_stored() -> None:
    model = scaled_input()
    fold_constants(model.graph, largest=64)
    assert len(model.graph.node) == 5
    assert "unread" not in {tensor.name for tensor in model.graph.initializer}
