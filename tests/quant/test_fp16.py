"""Strongly typed graphs: what is FP16, what stays FP32, and that the contract stays."""

from collections import defaultdict
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, shape_inference
from onnx_graphs import model_of, node

from pemexport import contract
from pemquant.fp16 import PrecisionError, to_half

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16


def graph_of(lines: str, **constants: np.ndarray) -> onnx.ModelProto:
    """x (n, 4, 4, 4) float32 through the nodes to y."""
    ends = {"x": (FLOAT, ["n", 4, 4, 4])}, {"y": (FLOAT, None)}
    return model_of([node(line) for line in lines.split("; ")], *ends, constants)


def types_of(model: onnx.ModelProto) -> dict[str, int]:
    """The element type of every tensor, as the checker of types sees it."""
    graph = shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    values = (*graph.input, *graph.value_info, *graph.output)
    known = {value.name: value.type.tensor_type.elem_type for value in values}
    return known | {tensor.name: tensor.data_type for tensor in graph.initializer}


def types_by_operator(model: onnx.ModelProto) -> dict[str, set[int]]:
    """The types of the first input of every operator."""
    types, found = types_of(model), defaultdict(set)
    for each in model.graph.node:
        found[each.op_type].add(types[each.input[0]])
    return found


WEIGHT = np.ones((4, 4), np.float32)


def test_a_sum_is_as_wide_as_its_widest_part_but_not_for_a_constant() -> None:
    nodes = "half = MatMul x w; wide = Softmax x; still_half = Add half b; y = Add still_half wide"
    types = types_of(to_half(graph_of(nodes, w=WEIGHT, b=np.ones(4, np.float32))))
    assert (types["still_half"], types["y"]) == (HALF, FLOAT)


@pytest.mark.parametrize(
    "changes", [{}, {"deformable": True, "layers": 4}], ids=["card", "original"]
)
def test_a_network_is_typed_throughout_and_keeps_its_contract(
    exported: Callable[..., onnx.ModelProto], changes: dict[str, object]
) -> None:
    model = exported(**changes)
    typed = to_half(model)
    onnx.checker.check_model(typed, full_check=True)
    assert typed.graph.input == model.graph.input
    assert typed.graph.output == model.graph.output
    assert [value.name for value in typed.graph.output] == list(contract.OUTPUTS)
    found = types_by_operator(typed)
    for operator in ("LayerNormalization", "Softmax", "ReduceL2", "ReduceMean", "Less"):
        assert found[operator] == {FLOAT}, operator
    for operator in ("Conv", "ConvTranspose", "MatMul", "AveragePool"):
        # Turing has no fast FP32 product; offsets of the deformable variant are coordinates.
        assert found[operator] == {HALF}, operator
    assert found["GridSample"] == ({FLOAT} if changes else set())


def test_a_weight_beyond_fp16_is_refused() -> None:
    nodes = "a = MatMul x w; b = Softmax x; c = MatMul a w; y = Add c b"
    with pytest.raises(PrecisionError, match=r"70000.*--precision"):
        to_half(graph_of(nodes, w=np.float32(70_000) * WEIGHT))
