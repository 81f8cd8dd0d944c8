"""A float graph as a strongly typed one: FP16 where that is fast, FP32 where that is needed.

Every tensor gets one of the two types, every border an explicit Cast. What decides is the operator
and what it feeds, never a name, so the rules hold for every network of this package:

* convolutions, matrix products, pooling, resizing take FP16: time and memory go there;
* LayerNorm, softmax, norms and means take FP32: they sum many terms;
* so do comparisons, whose result jumps, and the products that are compared: the similarity that
  chooses the prototypes, the mask logits that are asked for their sign, the class logits, the
  shares that compete for a pixel;
* so do indices that are computed as floats, and coordinates: FP16 has too few digits for them;
* everything else is as wide as the widest of its inputs that is no constant.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from pemexport.onnx_rewrite import float_tensors, replace_nodes

FLOAT, HALF = int(TensorProto.FLOAT), int(TensorProto.FLOAT16)
SUFFIX = {FLOAT: "@fp32", HALF: "@fp16"}

FLOAT_OPS = {"LayerNormalization", "Softmax", "ReduceL2", "ReduceMean", "ReduceMax", "Less"}
HALF_OPS = {"Conv", "ConvTranspose", "AveragePool", "Resize", "MatMul"}
# Quantised values are scaled in the type of the layers around them.
QUANTISING_OPS = {"QuantizeLinear", "DequantizeLinear"}
COMPARING_OPS = {"Less", "Greater", "Max", "Where", "ArgMax", "ReduceMax", "Softmax"}
PRODUCTS = {"Conv", "ConvTranspose", "MatMul"}
# What a product feeds is looked for up to the next heavy operator; or to a Sigmoid: a share that
# is a little off weighs a little less, a logit that is a little off can change its sign.
ENDS = HALF_OPS | {"Sigmoid"}
SAMPLING_OP, WHERE_TO = "GridSample", 1  # the operator, and which of its inputs says where
TYPED_INPUTS = {"Resize": (0,)}  # of operators with other inputs that are always FP32
HALF_LIMIT = float(np.finfo(np.float16).max)  # 65504


class PrecisionError(ValueError):
    """A graph that cannot take a precision; the message says why."""


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
            node.input[place] = wanted = name + SUFFIX[kind]
            if wanted in types or wanted in made:
                continue
            if name in initial:
                made[wanted] = _converted(initial[name], wanted)
            else:
                nodes.append(helper.make_node("Cast", [name], [wanted], wanted, to=kind))
                types[wanted] = kind
        types.update((name, kind) for name in node.output if name in floats)
        nodes.append(node)
    graph.initializer.extend(made.values())
    replace_nodes(graph, nodes)
    return typed


def node_kinds(graph: onnx.GraphProto, floats: set[str]) -> list[int]:
    """FLOAT or HALF for each node; it says nothing for nodes without a float tensor."""
    exact = exact_nodes(graph)
    fixed = {t.name for t in graph.initializer}  # what does not depend on the image
    wide: set[str] = set()
    kinds = []
    for number, node in enumerate(graph.node):
        moving = [name for name in node.input if name and name not in fixed]
        if node.op_type in QUANTISING_OPS:
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
    """Numbers of the nodes that take FP32 for what they are or for what they feed."""
    readers: dict[str, set[int]] = defaultdict(set)
    makers: dict[str, int] = {}
    for number, node in enumerate(graph.node):
        makers.update((name, number) for name in node.output)
        for name in node.input:
            readers[name].add(number)
    exact = set()
    for number, node in enumerate(graph.node):
        is_product = node.op_type in PRODUCTS
        if node.op_type in FLOAT_OPS or (
            is_product and _is_compared(graph, readers, number, set())
        ):
            exact.add(number)
        if node.op_type == SAMPLING_OP:
            exact.update({number, *_sources(graph, makers, node.input[WHERE_TO])})
    return exact


def _is_compared(
    graph: onnx.GraphProto, readers: Mapping[str, set[int]], number: int, seen: set[int]
) -> bool:
    """Whether what a node computes is compared, or becomes an index, before the next product."""
    after = {r for name in graph.node[number].output for r in readers.get(name, ())} - seen
    seen |= after
    return any(
        graph.node[reader].op_type in COMPARING_OPS
        or _makes_index(graph.node[reader])
        or (graph.node[reader].op_type not in ENDS and _is_compared(graph, readers, reader, seen))
        for reader in after
    )


def _makes_index(node: onnx.NodeProto) -> bool:
    return node.op_type == "Cast" and node.attribute[0].i not in (FLOAT, HALF)


def _sources(graph: onnx.GraphProto, makers: Mapping[str, int], name: str) -> Iterator[int]:
    """The nodes that a value comes from, back to the products."""
    number = makers.get(name)
    if number is not None and graph.node[number].op_type not in PRODUCTS:
        yield number
        for earlier in graph.node[number].input:
            yield from _sources(graph, makers, earlier)


def typed_places(node: onnx.NodeProto, floats: set[str]) -> list[int]:
    """Which of a node's inputs have to be of its type."""
    places = TYPED_INPUTS.get(node.op_type, range(len(node.input)))
    return [place for place in places if node.input[place] in floats]


def _converted(tensor: TensorProto, name: str) -> TensorProto:
    """A constant in half precision; PrecisionError where that is too small for it."""
    value = numpy_helper.to_array(tensor)
    if np.abs(value).max(initial=0) > HALF_LIMIT:
        raise PrecisionError(
            f"weights must be at most {HALF_LIMIT:g} for FP16, but {tensor.name} has "
            f"{np.abs(value).max():g}; export with --precision fp32"
        )
    return numpy_helper.from_array(value.astype(np.float16), name)
