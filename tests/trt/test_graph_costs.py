"""Kernels of small graphs, whose reads and writes can be counted by hand."""

import re

import numpy as np
import pytest
from onnx import NodeProto, TensorProto
from onnx.shape_inference import infer_shapes
from onnx_graphs import model_of, node

from pemtrt.graph_costs import Kernels, kernels_of

FLOAT = TensorProto.FLOAT
CONSTANTS = {
    "weight": np.zeros((8, 4, 3, 3), np.float32),
    "second": np.zeros((8, 8, 1, 1), np.float32),
    "scale": np.float32(0.1),
    "zero": np.int8(0),
}
ATTRIBUTES: dict[str, dict[str, object]] = {
    "Conv3x3": {"pads": [1] * 4},
    "CastFloat16": {"to": TensorProto.FLOAT16},
    "CastFloat": {"to": TensorProto.FLOAT},
    "ReduceMean": {"axes": [2, 3]},
}
IMAGE = (4, 16, 16)  # elements of one: 1,024


def made(line: str) -> NodeProto:
    """Of a line such as "y = Conv3x3 image weight"."""
    line = line.strip()
    kind = line.split(" = ")[1].split()[0]
    operator = re.sub("3x3|Float.*", "", kind)
    return node(line.replace(kind, operator), **ATTRIBUTES.get(kind, {}))


def kernels(lines: str, image: tuple[int | str, ...] = IMAGE) -> Kernels:
    """Of a graph in a batch of 2, the last line its output."""
    nodes = [made(line) for line in lines.splitlines()]
    used = {name for one in nodes for name in one.input}
    constants = {name: value for name, value in CONSTANTS.items() if name in used}
    ends = {"image": (FLOAT, ["batch", *image])}, {nodes[-1].output[0]: (FLOAT, None)}
    # The output needs a shape whose first dimension is the batch.
    return kernels_of(infer_shapes(model_of(nodes, *ends, constants, opset=17)), 2)


def test_what_another_kernel_needs_is_written_and_read_again() -> None:
    found = kernels("""y = Conv3x3 image weight
                       z = Relu y
                       u = Conv z second
                       v = Add u z""")
    first, second = found.kernels
    assert (first.operations, first.writes) == (("Conv", "Relu"), {"z"})
    assert first.multiply_adds == 2 * 8 * 16 * 16 * 4 * 9
    assert first.reads == {"image": 2 * 1024, "weight": 288}
    assert found.tensors["z"].shape == (2, 8, 16, 16)
    assert second.operations == ("Conv", "Add")
    assert second.reads == {"z": 2 * 8 * 256, "second": 64}


def test_no_kernel_waits_for_itself() -> None:
    """A map times a weight made from its mean: the mean must be ready before the product."""
    found = kernels("""x = Conv3x3 image weight
                       m = ReduceMean x
                       w = Conv m second
                       s = Sigmoid w
                       p = Mul x s
                       y = Add x p""")
    first, mean, last = found.kernels
    assert (first.operations, first.writes) == (("Conv",), {"x"})
    assert (mean.operations, mean.writes) == (("ReduceMean",), {"m"})
    assert last.operations == ("Conv", "Sigmoid", "Mul", "Add")
    assert (last.reads, last.writes) == ({"m": 16, "second": 64, "x": 4096}, {"y"})


def test_quantized_tensors_are_read_as_bytes() -> None:
    found = kernels("""y = Conv3x3 image weight
                       q = QuantizeLinear y scale zero
                       d = DequantizeLinear q scale zero
                       z = Conv d second""")
    first, second = found.kernels
    assert (first.operations, first.writes) == (("Conv", "QuantizeLinear"), {"q"})
    assert second.reads["q"] == 2 * 8 * 256
    assert (first.matrix_kind, second.matrix_kind) == (TensorProto.FLOAT, TensorProto.INT8)


def test_a_cast_is_read_in_the_narrower_type_and_computed_in_its_own() -> None:
    found = kernels("""y = Conv3x3 image weight
                       half = CastFloat16 y
                       h = Relu half
                       wide = CastFloat h
                       m = ReduceMean wide
                       z = Conv wide second""")
    first, mean, last = found.kernels
    assert (first.operations, first.writes) == (("Conv", "Relu"), {"h"})
    assert (mean.reads, last.reads) == ({"h": 4096}, {"h": 4096, "second": 64})
    assert found.tensors["h"].kind == TensorProto.FLOAT16
    assert last.matrix_kind == TensorProto.FLOAT


def test_a_graph_without_shapes_is_refused() -> None:
    with pytest.raises(ValueError, match="image must have a fixed shape"):
        kernels("y = Relu image", (4, "height", 16))
