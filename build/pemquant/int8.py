"""INT8 in a float graph, written as pairs of QuantizeLinear and DequantizeLinear.

Only convolutions are quantized: weights symmetric with a scale for each output channel, inputs
symmetric with one scale, zero points zero. The matrix products of the decoder are not: for a
hundred queries they are about 3% of the work.

The pairs are placed where TensorRT fuses them: on the input of a convolution, one pair for all
consumers of a tensor; and on the inputs of a concatenation with a quantized consumer, all with the
scale of the concatenation, so that the parts are written as INT8 and concatenated as bytes.
"""

from collections.abc import Collection, Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper, shape_inference

from pemexport.onnx_rewrite import replace_nodes

INT8_MAX = 127
CHANNEL_AXIS = {"Conv": 0, "ConvTranspose": 1}  # of the channels out, in the weight
SMALLEST_STEP = 2.0**-20  # half precision holds it with four binary digits
ZERO = "int8/zero"  # every zero point
DEQUANTIZED = "/dequantized"


def candidates(model: onnx.ModelProto) -> list[str]:
    """Names of the nodes that can be quantized: convolutions by weights, of maps, not of vectors.

    What is computed from an index, as in the index map, is excluded: it has no steps to spare.
    """
    inferred = shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    sides = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim[2:]]
        for value in inferred.value_info
    }
    weights = {tensor.name for tensor in model.graph.initializer}
    indexed: set[str] = set()
    for node in model.graph.node:
        if node.op_type == "ArgMax" or not indexed.isdisjoint(node.input):
            indexed.update(node.output)
    return [
        node.name
        for node in model.graph.node
        if node.op_type in CHANNEL_AXIS
        and node.output[0] not in indexed
        and node.input[1] in weights
        and max(sides[node.output[0]]) > 1
    ]


def quantized_tensors(graph: onnx.GraphProto, layers: Collection[str]) -> dict[str, str]:
    """The tensors that get a pair, each with the tensor whose scale it shares.

    That is itself, or the concatenation that it is part of.
    """
    scaled_as = {node.input[0]: node.input[0] for node in graph.node if node.name in layers}
    for node in reversed(graph.node):  # a concatenation may go into the next one
        if node.op_type == "Concat" and node.output[0] in scaled_as:
            scaled_as.update(dict.fromkeys(node.input, scaled_as[node.output[0]]))
    return scaled_as


def quantize(
    model: onnx.ModelProto, clips: Mapping[str, float], layers: Collection[str]
) -> onnx.ModelProto:
    """A copy of a float graph with the named layers in INT8.

    `clips`: the largest absolute value in INT8, for every tensor with a scale of its own. All
    scales are exact in half precision.
    """
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    graph = changed.graph
    scaled_as = quantized_tensors(graph, layers)
    weights = {tensor.name: tensor for tensor in graph.initializer}
    graph.initializer.append(numpy_helper.from_array(np.array(0, np.int8), ZERO))
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.name in layers:
            weight = weights[node.input[1]]
            nodes.append(_dequantized_weight(graph, weight, CHANNEL_AXIS[node.op_type]))
            node.input[1] = nodes[-1].output[0]
        if node.name in layers or _passes_int8(node, scaled_as):
            for place, name in enumerate(node.input):
                if name in scaled_as:
                    node.input[place] = name + DEQUANTIZED
        nodes.append(node)
        for name in node.output:
            if name in scaled_as:
                nodes += _pair(graph, name, clips[scaled_as[name]])
    replace_nodes(graph, nodes)
    return changed


def int8_step(clip: NDArray[np.float64]) -> NDArray[np.float32]:
    """The step of INT8 for values up to `clip`: the next number up that half precision holds."""
    exact = np.maximum(clip / INT8_MAX, SMALLEST_STEP)
    half = exact.astype(np.float16)
    return np.where(half < exact, np.nextafter(half, np.float16(np.inf)), half).astype(np.float32)


def _passes_int8(node: onnx.NodeProto, scaled_as: Mapping[str, str]) -> bool:
    """Whether a node between two pairs only moves or averages INT8 values."""
    return node.op_type in ("Concat", "AveragePool") and node.output[0] in scaled_as


def _dequantized_weight(
    graph: onnx.GraphProto, weight: onnx.TensorProto, axis: int
) -> onnx.NodeProto:
    """Store a weight as INT8 with a step for each channel out; returns the node that gives it."""
    values = numpy_helper.to_array(weight).astype(np.float64)
    others = tuple(place for place in range(values.ndim) if place != axis)
    steps = int8_step(np.abs(values).max(axis=others, keepdims=True))
    codes = np.rint(values / steps).astype(np.int8)  # at most 127, as steps are rounded up
    code, step = f"{weight.name}/int8", f"{weight.name}/step"
    graph.initializer.append(numpy_helper.from_array(codes, code))
    graph.initializer.append(numpy_helper.from_array(steps.reshape(-1), step))
    target = weight.name + DEQUANTIZED
    return helper.make_node("DequantizeLinear", [code, step], [target], target, axis=axis)


def _pair(graph: onnx.GraphProto, name: str, clip: float) -> list[onnx.NodeProto]:
    """The two nodes that take a tensor to INT8 and back."""
    step, code, target = f"{name}/step", f"{name}/int8", name + DEQUANTIZED
    graph.initializer.append(numpy_helper.from_array(int8_step(np.array(clip)), step))
    return [
        helper.make_node("QuantizeLinear", [name, step, ZERO], [code], code),
        helper.make_node("DequantizeLinear", [code, step, ZERO], [target], target),
    ]
