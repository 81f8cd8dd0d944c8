"""Emulate a typed graph on a CPU.

ONNX Runtime has no half-precision arithmetic on x86: it computes in FP32 between casts, and takes
casts away where one follows the other, so most roundings never happen. Here every FP16 tensor
becomes an FP32 one that is really rounded: through FP16 and a Reshape, which keeps the two casts
apart.

Emulated: the rounding of weights, of every operation's result and to INT8; rather too much than
too little, as an engine that fuses operations rounds once for several. Not emulated: FP16 sums
inside a convolution, where an engine has them, and the order of its sums.
"""

import onnx
from onnx import TensorProto, helper, numpy_helper, shape_inference

FLOAT, HALF = int(TensorProto.FLOAT), int(TensorProto.FLOAT16)
# These only move or select values, so their results need no further rounding.
MOVING_OPS = {"Relu", "Reshape", "Transpose", "Concat", "Split", "Unsqueeze", "Slice", "Gather"}


def emulate_fp16(typed: onnx.ModelProto) -> onnx.ModelProto:
    """An FP32 graph with the roundings of `typed`."""
    model = shape_inference.infer_shapes(typed, strict_mode=True, data_prop=True)
    graph = model.graph
    ranks = {
        value.name: len(value.type.tensor_type.shape.dim)
        for value in graph.value_info
        if value.type.tensor_type.elem_type == HALF
    }
    for tensor in graph.initializer:
        if tensor.data_type == HALF:
            value = numpy_helper.to_array(tensor).astype("float32")
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        nodes.append(node)
        if node.op_type == "Cast" and node.attribute[0].i == HALF:
            node.op_type = "Identity"
            del node.attribute[:]
        if node.op_type in MOVING_OPS:
            continue
        for place, name in enumerate(node.output):
            if name in ranks:
                node.output[place] = f"{name}/exact"
                nodes += _rounding(f"{name}/exact", name, ranks[name])
    shapes = {r: [0] * r for r in set(ranks.values())}
    graph.initializer.extend(
        helper.make_tensor(_shape_name(r), TensorProto.INT64, [r], zeros)
        for r, zeros in shapes.items()
    )
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    return model


def _rounding(source: str, target: str, rank: int) -> list[onnx.NodeProto]:
    """To FP16 and back; a shape of zeros leaves every side as it is."""
    return [
        helper.make_node("Cast", [source], [f"{target}/half"], to=HALF),
        helper.make_node("Reshape", [f"{target}/half", _shape_name(rank)], [f"{target}/kept"]),
        helper.make_node("Cast", [f"{target}/kept"], [target], to=FLOAT),
    ]


def _shape_name(rank: int) -> str:
    return f"as-it-is/{rank}"
