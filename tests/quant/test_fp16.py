"""Strongly typed graphs: what is FP16, what stays FP32, and that the contract stays."""

from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper, shape_inference

from pemexport import contract
from pemquant.fp16 import PrecisionError, to_half

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16


def graph_of(
    nodes: Sequence[onnx.NodeProto], out: int = FLOAT, **weights: np.ndarray
) -> onnx.ModelProto:
    """x (n, 4, 4, 4) float32 through the nodes to y."""
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", FLOAT, ["n", 4, 4, 4])],
        [helper.make_tensor_value_info("y", out, None)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)


def types_of(model: onnx.ModelProto) -> dict[str, int]:
    """The element type of every tensor, as the checker of types sees it."""
    graph = shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    values = (*graph.input, *graph.value_info, *graph.output)
    known = {value.name: value.type.tensor_type.elem_type for value in values}
    return known | {tensor.name: tensor.data_type for tensor in graph.initializer}


def types_by_operator(model: onnx.ModelProto) -> dict[str, set[int]]:
    """The types of the first input of every operator."""
    types, found = types_of(model), defaultdict(set)
    for node in model.graph.node:
        found[node.op_type].add(types[node.input[0]])
    return found


WEIGHT = np.ones((4, 4), np.float32)
node = helper.make_node


@pytest.mark.parametrize(
    ("behind", "expected"),
    [
        ([node("Sigmoid", ["p"], ["q"])], HALF),
        ([node("Softmax", ["p"], ["q"])], FLOAT),
        ([node("Add", ["p", "p"], ["a"]), node("Softmax", ["a"], ["q"])], FLOAT),
        ([node("Sigmoid", ["p"], ["a"]), node("Softmax", ["a"], ["q"])], HALF),
        ([node("MatMul", ["p", "w"], ["a"]), node("Softmax", ["a"], ["q"])], HALF),
        ([node("Max", ["p", "x"], ["q"])], FLOAT),
        ([node("Less", ["p", "x"], ["a"]), node("Cast", ["a"], ["q"], to=FLOAT)], FLOAT),
        ([node("Cast", ["p"], ["a"], to=7), node("Cast", ["a"], ["q"], to=FLOAT)], FLOAT),
        ([node("ReduceL2", ["p", "axes"], ["q"])], HALF),
    ],
    ids=[
        "becomes a share",
        "is normalised",
        "is normalised after a sum",
        "is normalised as a share",
        "goes into a product that is normalised",
        "competes",
        "is compared",
        "becomes an index",
        "is measured",
    ],
)
def test_a_product_is_as_precise_as_what_it_is_for(
    behind: list[onnx.NodeProto], expected: int
) -> None:
    nodes = [node("MatMul", ["x", "w"], ["p"]), *behind, node("Cast", ["q"], ["y"], to=FLOAT)]
    typed = to_half(graph_of(nodes, w=WEIGHT, axes=np.array([1])))
    first = next(n for n in typed.graph.node if n.op_type == "MatMul")
    types = types_of(typed)
    assert {types[name] for name in (*first.input, *first.output)} == {expected}


def test_a_sum_is_as_wide_as_its_widest_part_but_not_for_a_constant() -> None:
    nodes = [
        node("MatMul", ["x", "w"], ["half"]),
        node("Softmax", ["x"], ["wide"]),
        node("Add", ["half", "b"], ["still_half"]),
        node("Add", ["still_half", "wide"], ["y"]),
    ]
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
    for operator in ("LayerNormalization", "Softmax", "ReduceL2", "ReduceMean", "Less", "Greater"):
        assert found[operator] == {FLOAT}, operator
    assert found["ConvTranspose"] == found["AveragePool"] == {HALF}
    assert found["GridSample"] == ({FLOAT} if changes else set())


def test_every_similarity_that_chooses_is_computed_from_fp32(
    exported: Callable[..., onnx.ModelProto],
) -> None:
    typed = to_half(exported())
    types = types_of(typed)
    makers = {name: n for n in typed.graph.node for name in n.output}
    choices = [n for n in typed.graph.node if n.op_type == "ArgMax" and "cross" in n.name]
    assert len(choices) == 3
    for choice in choices:
        masked = makers[choice.input[0]]
        assert masked.op_type == "Where"
        product = makers[masked.input[2]]
        assert product.op_type == "MatMul"
        assert {types[name] for name in product.input} == {FLOAT}


def test_a_weight_beyond_fp16_is_refused() -> None:
    nodes = [node("MatMul", ["x", "w"], ["a"]), node("Softmax", ["x"], ["b"])]
    nodes += [node("MatMul", ["a", "w"], ["c"]), node("Add", ["c", "b"], ["y"])]
    with pytest.raises(PrecisionError, match=r"70000.*--precision"):
        to_half(graph_of(nodes, w=np.float32(70_000) * WEIGHT))
