"""Reading and rewriting ONNX graphs."""

import math
from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper, shape_inference
from onnx.reference import ReferenceEvaluator

SMALL = 64  # elements: shapes, scales and axes have fewer, every weight has more


def float_tensors(model: onnx.ModelProto) -> set[str]:
    """The names of all FP32 tensors of a graph: weights, inputs, outputs and what is between."""
    graph = shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    values = (*graph.input, *graph.value_info, *graph.output)
    named = {v.name for v in values if v.type.tensor_type.elem_type == TensorProto.FLOAT}
    return named | {t.name for t in graph.initializer if t.data_type == TensorProto.FLOAT}


def replace_nodes(graph: onnx.GraphProto, nodes: Sequence[onnx.NodeProto]) -> None:
    """Give the graph other nodes; what was known of its tensors and what nobody reads goes."""
    nodes = list(nodes)  # they may lie in the graph
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.value_info[:]
    used = {name for node in nodes for name in node.input}
    used.update(value.name for value in graph.output)
    for tensor in [t for t in graph.initializer if t.name not in used]:
        graph.initializer.remove(tensor)


def fold_constants(graph: onnx.GraphProto, *, largest: float = math.inf) -> None:
    """Work out what depends on nothing but constants, each of at most `largest` elements.

    A value that is larger than what it is made from stays as it is: it is cheaper to make than to
    store.
    """
    known = {t.name: t for t in graph.initializer if math.prod(t.dims) <= largest}
    original = {t.name for t in graph.initializer}
    kept = []
    for node in graph.node:
        values = _outcome(node, known)
        if values is None:
            kept.append(node)
            continue
        for name, value in zip(node.output, values, strict=True):
            known[name] = numpy_helper.from_array(value, name)
    used = {name for node in kept for name in node.input}
    graph.initializer.extend(t for n, t in known.items() if n in used and n not in original)
    replace_nodes(graph, kept)


def _outcome(
    node: onnx.NodeProto, known: dict[str, TensorProto]
) -> list[np.ndarray[tuple[int, ...], np.dtype[np.generic]]] | None:
    """The values of a node's outputs, or None where they are not to be worked out."""
    names = [name for name in node.input if name]
    if not all(name in known for name in names):
        return None
    feeds = {name: numpy_helper.to_array(known[name]) for name in names}
    values = [np.asarray(value) for value in ReferenceEvaluator(node).run(None, feeds)]
    largest = max([SMALL, *(value.size for value in feeds.values())])
    grows = names and any(value.size > largest for value in values)
    return None if grows else values
