"""A strongly typed copy of a float graph: FP16 where it is fast, FP32 where it is needed.

Every tensor gets one of the two types, every border an explicit Cast. The type follows from the
operator and its consumers, never from a name, so the rules hold for every network here:

* convolutions, matrix products, pooling, resizing are FP16: they need most time and memory, and a
  T4 has no fast FP32 matrix product;
* LayerNorm, softmax, norms, means and maxima are FP32, as is the comparison of masks with zero;
* so are the coordinates of samples: FP16 has too few digits for them;
* everything else is as wide as its widest input that is not constant.

The cosines that select prototypes, the mask logits and the masks that compete for a pixel were FP32
once. In FP16 they cost 0.01 points of mIoU at most (13 street photographs), and
the graph compiles for a T4. An
index of a query passes through FP16, too: it is exact up to 2048.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from pemexport.onnx_rewrite import float_tensors, replace_nodes

FLOAT, HALF = int(TensorProto.FLOAT), int(TensorProto.FLOAT16)
SUFFIX = {FLOAT: "@fp32", HALF: "@fp16"}

FLOAT_OPS = {"LayerNormalization", "Softmax", "ReduceL2", "ReduceMean", "ReduceMax", "Less"}
HALF_OPS = {"Conv", "ConvTranspose", "AveragePool", "Resize", "MatMul"}
# Quantized values are scaled in the type of the layers around them.
QUANTIZING_OPS = {"QuantizeLinear", "DequantizeLinear"}
PRODUCTS = {"Conv", "ConvTranspose", "MatMul"}
SAMPLING_OP, COORDINATES = "GridSample", 1  # the operator, and its input of coordinates
TYPED_INPUTS = {"Resize": (0,)}  # of operators with other inputs that are always FP32
HALF_LIMIT = float(np.finfo(np.float16).max)  # 65504


class PrecisionError(ValueError):
    """A graph that cannot be converted to a precision, or loses too much; the message says why."""


def to_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """A strongly typed copy of a float graph; its inputs and outputs keep their types."""
    typed = onnx.ModelProto()
    typed.CopyFrom(model)
    graph, floats = typed.graph, float_tensors(typed)
    kinds = node_kinds(graph, floats)
    initial = {t.name: t for t in graph.initializer}
    types: dict[str, int] = {}
    nodes: list[onnx.NodeProto] = []
    made: dict[str, onnx.TensorProto] = {}
    for node, kind in zip(graph.node, kinds, strict=True):
        for place in typed_places(node, floats):
            name = node.input[place]
            if types.get(name, FLOAT) == kind:
                continue
            node.input[place] = cast = name + SUFFIX[kind]
            if cast in types or cast in made:
                continue
            if name in initial:
                made[cast] = _converted(initial[name], cast)
            else:
                nodes.append(helper.make_node("Cast", [name], [cast], cast, to=kind))
                types[cast] = kind
        types.update((name, kind) for name in node.output if name in floats)
        nodes.append(node)
    graph.initializer.extend(made.values())
    replace_nodes(graph, nodes)
    return typed


def node_kinds(graph: onnx.GraphProto, floats: set[str]) -> list[int]:
    """FLOAT or HALF for each node; meaningless for nodes without a float tensor."""
    exact = exact_nodes(graph)
    fixed = {t.name for t in graph.initializer}  # independent of the image
    wide: set[str] = set()
    kinds = []
    for number, node in enumerate(graph.node):
        moving = [name for name in node.input if name and name not in fixed]
        if node.op_type in QUANTIZING_OPS:
            kind = HALF
        elif number in exact or not moving or node.op_type == "Cast":
            kind = FLOAT
        elif node.op_type in HALF_OPS or wide.isdisjoint(moving):
            kind = HALF
        else:
            kind = FLOAT
        if not moving:
            fixed.update(node.output)
        elif kind == FLOAT:
            wide.update(floats.intersection(node.output))
        kinds.append(kind)
    return kinds


def exact_nodes(graph: onnx.GraphProto) -> set[int]:
    """Indices of the nodes that are FP32 because of their operator or as coordinates of samples."""
    makers = {name: number for number, node in enumerate(graph.node) for name in node.output}
    exact = {number for number, node in enumerate(graph.node) if node.op_type in FLOAT_OPS}
    for number, node in enumerate(graph.node):
        if node.op_type == SAMPLING_OP:
            exact.update({number, *_sources(graph, makers, node.input[COORDINATES])})
    return exact


def _sources(graph: onnx.GraphProto, makers: Mapping[str, int], name: str) -> Iterator[int]:
    """The nodes that produce a value, back to the products."""
    number = makers.get(name)
    if number is not None and graph.node[number].op_type not in PRODUCTS:
        yield number
        for earlier in graph.node[number].input:
            yield from _sources(graph, makers, earlier)


def typed_places(node: onnx.NodeProto, floats: set[str]) -> list[int]:
    """Positions of the inputs that must have the node's type."""
    places = TYPED_INPUTS.get(node.op_type, range(len(node.input)))
    return [place for place in places if node.input[place] in floats]


def _converted(tensor: TensorProto, name: str) -> TensorProto:
    """A constant in half precision; PrecisionError if it exceeds the range."""
    value = numpy_helper.to_array(tensor)
    if np.abs(value).max(initial=0) > HALF_LIMIT:
        raise PrecisionError(
            f"{tensor.name} has weights up to {np.abs(value).max():g}, but FP16 ends at "
            f"{HALF_LIMIT:g}; export with --precision fp32"
        )
    return numpy_helper.from_array(value.astype(np.float16), name)
