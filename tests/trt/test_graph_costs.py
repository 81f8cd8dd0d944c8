"""Kernels of small graphs, whose reads and writes can be counted by hand."""

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

from pemtrt.graph_costs import Kernels, kernels_of

CONSTANTS = {
    "weight": np.zeros((8, 4, 3, 3), np.float32),
    "second": np.zeros((8, 8, 1, 1), np.float32),
    "two": np.float32(2),
    "doubled": np.array([1, 1, 2, 2], np.float32),
    "halved": np.array([1, 1, 0.25, 0.25], np.float32),
    "places": np.zeros((2, 1, 4, 4), np.int64),
    "inner": np.array([2, 3], np.int64),
    "scale": np.float32(0.1),
    "zero": np.int8(0),
}
IMAGE = (4, 16, 16)  # elements of one: 1,024


def node(kind: str, inputs: str, outputs: str, **attributes: object) -> NodeProto:
    first = outputs.split()[0]
    return helper.make_node(kind, inputs.split(" "), outputs.split(), name=first, **attributes)


def conv(source: str, target: str, weight: str = "weight") -> NodeProto:
    pad = 1 if weight == "weight" else 0
    return node("Conv", f"{source} {weight}", target, pads=[pad] * 4)


def kernels(*nodes: NodeProto, batch: int = 2) -> Kernels:
    used = {name for one in nodes for name in one.input}
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", *IMAGE])
    last = nodes[-1].output[0]
    out = helper.make_tensor_value_info(last, TensorProto.FLOAT, None)
    graph = helper.make_graph(
        list(nodes),
        "small",
        [image],
        [out],
        [numpy_helper.from_array(v, k) for k, v in CONSTANTS.items() if k in used],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    # The output needs a shape whose first dimension is the batch.
    shaped = onnx.shape_inference.infer_shapes(model)
    return kernels_of(shaped, batch)


def test_a_convolution_takes_in_the_activation_behind_it() -> None:
    found = kernels(conv("image", "y"), node("Relu", "y", "z"))
    (only,) = found.kernels
    assert only.operations == ("Conv", "Relu")
    assert only.multiply_adds == 2 * 8 * 16 * 16 * 4 * 9
    assert only.reads == {"image": 2 * 1024, "weight": 288}
    assert only.writes == {"z"}
    assert found.tensors["z"].shape == (2, 8, 16, 16)


def test_what_another_kernel_needs_is_written_and_read_again() -> None:
    first, second = kernels(
        conv("image", "y"),
        node("Relu", "y", "z"),
        conv("z", "u", "second"),
        node("Add", "u z", "v"),
    ).kernels
    assert first.writes == {"z"}
    assert second.operations == ("Conv", "Add")
    assert second.reads == {"z": 2 * 8 * 256, "second": 64}


def test_no_kernel_waits_for_itself() -> None:
    """A map times a weight made from its mean: the mean must be ready before the product."""
    first, mean, last = kernels(
        conv("image", "x"),
        node("ReduceMean", "x", "m", axes=[2, 3]),
        conv("m", "w", "second"),
        node("Sigmoid", "w", "s"),
        node("Mul", "x s", "p"),
        node("Add", "x p", "y"),
    ).kernels
    assert (first.operations, first.writes) == (("Conv",), {"x"})
    assert (mean.operations, mean.writes) == (("ReduceMean",), {"m"})
    assert last.operations == ("Conv", "Sigmoid", "Mul", "Add")
    assert last.reads == {"m": 16, "second": 64, "x": 4096}
    assert last.writes == {"y"}


def test_joining_is_free_and_a_part_is_read_as_a_part() -> None:
    one, other, both, part = kernels(
        conv("image", "a"),
        conv("image", "b"),
        node("Concat", "a b", "c", axis=1),
        node("ReduceMean", "c", "m", axes=[2, 3]),
        node("Split", "c", "d e", axis=1),
        node("ReduceMax", "d", "n", axes=[2, 3]),
    ).kernels
    assert [one.writes, other.writes] == [{"a"}, {"b"}]
    assert both.reads == {"c": 2 * 16 * 256}
    assert part.reads == {"d": 2 * 8 * 256}


def test_resizes_and_gathers_read_what_they_use() -> None:
    grow, shrink, pick = kernels(
        node("Resize", "image  doubled", "big", mode="linear"),
        node("Resize", "big  halved", "small", mode="linear"),
        node("GatherElements", "big places", "y", axis=0),
    ).kernels
    assert grow.reads == {"image": 2048, "doubled": 4}
    assert shrink.reads["big"] == 4 * 2 * 4 * 8 * 8  # of 8,192
    assert pick.reads["big"] == 2 * 1 * 4 * 4


def test_what_depends_on_no_input_costs_nothing_but_its_reading() -> None:
    (only,) = kernels(node("Mul", "weight two", "w"), conv("image", "y", "w")).kernels
    assert only.reads == {"image": 2048, "w": 288}


def test_quantised_tensors_are_read_as_bytes() -> None:
    first, second = kernels(
        conv("image", "y"),
        node("QuantizeLinear", "y scale zero", "q"),
        node("DequantizeLinear", "q scale zero", "d"),
        conv("d", "z", "second"),
    ).kernels
    assert (first.operations, first.writes) == (("Conv", "QuantizeLinear"), {"q"})
    assert second.reads["q"] == 2 * 8 * 256
    assert (first.matrix_kind, second.matrix_kind) == (TensorProto.FLOAT, TensorProto.INT8)


def test_a_cast_is_read_in_the_narrower_type_and_computed_in_its_own() -> None:
    found = kernels(
        conv("image", "y"),
        node("Cast", "y", "half", to=TensorProto.FLOAT16),
        node("Relu", "half", "h"),
        node("Cast", "h", "wide", to=TensorProto.FLOAT),
        node("ReduceMean", "wide", "m", axes=[2, 3]),
        conv("wide", "z", "second"),
    )
    first, mean, last = found.kernels
    assert (first.operations, first.writes) == (("Conv", "Relu"), {"h"})
    assert (mean.reads, last.reads) == ({"h": 4096}, {"h": 4096, "second": 64})
    assert found.tensors["h"].kind == TensorProto.FLOAT16
    assert last.matrix_kind == TensorProto.FLOAT


def test_a_graph_without_shapes_is_refused() -> None:
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 4, "height", 16])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4, "height", 16])
    graph = helper.make_graph([node("Relu", "image", "y")], "open", [image], [out])
    with pytest.raises(ValueError, match="image must have a fixed shape"):
        kernels_of(helper.make_model(graph), 1)
