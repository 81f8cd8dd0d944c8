"""INT8 in a float graph: the FakeQuantize nodes that make OpenVINO compute convolutions in INT8.

Which tensors are quantized, and in what range, was measured at export and is in a JSON file beside
the graph. A convolution of such a tensor gets its weights quantized as well, with one scale for
each output channel, and then computes in INT8. A concatenation whose parts are all quantized, with
one scale, stays in INT8; so does an average pool.
"""

import json
from pathlib import Path

import numpy as np
import openvino
from numpy.typing import NDArray
from openvino import opset13
from openvino.passes import ConstantFolding, Manager

Range = tuple[float, float]  # the lowest and the highest value that INT8 represents
Ranges = dict[str, Range]  # by the tensor's name in ONNX
TensorIds = set[tuple[str, int]]  # quantized tensors in OpenVINO's graph, see _id

WEIGHTS_KEY = ["framework", "weights_sha256"]  # where OpenVINO keeps ONNX's metadata
LEVELS = 256  # of an activation
WEIGHT_LEVELS = 255  # symmetric: -127 to 127
MIN_RANGE = 1e-9  # a channel of zeros still needs a range
CHANNEL_AXES = {  # all but the output channel, in OpenVINO's layout of the weights
    "Convolution": (1, 2, 3),
    "GroupConvolution": (2, 3, 4),
    "ConvolutionBackpropData": (0, 2, 3),
}
INT8_TO_INT8 = ("Concat", "AvgPool")


def read_ranges(path: Path, graph: openvino.Model) -> tuple[Ranges, str]:
    """The ranges at `path` if they belong to `graph`; else none, and the reason."""
    if not path.is_file():
        return {}, f"there is no {path.name} beside the graph"
    content = json.loads(path.read_text(encoding="utf-8"))
    weights = graph.get_rt_info(WEIGHTS_KEY).value if graph.has_rt_info(WEIGHTS_KEY) else None
    if weights != content["weights_sha256"]:
        return {}, f"{path.name} was measured with other weights"
    ranges = {name: (low, high) for name, (low, high) in content["ranges"].items()}
    if missing := ranges.keys() - _tensors(graph).keys():
        return {}, f"{path.name} names a tensor that the graph lacks, {min(missing)}"
    return ranges, ""


def quantize_graph(graph: openvino.Model, ranges: Ranges) -> int:
    """Insert FakeQuantize nodes into `graph`; return the number of convolutions now in INT8."""
    folding = Manager()
    folding.register_pass(ConstantFolding())  # weights are stored in half precision, and scaled
    folding.run_passes(graph)
    tensors = _tensors(graph)
    quantized = {_id(tensors[name]) for name in ranges}
    layers = [
        node
        for node in graph.get_ordered_ops()
        if node.get_type_name() in CHANNEL_AXES
        and _id(node.input_value(0)) in quantized
        and node.input_value(1).get_node().get_type_name() == "Constant"
    ]
    consumers = {name: _int8_consumers(tensors[name], layers, quantized) for name in ranges}
    for layer in layers:
        _quantize_weights(layer)
    for name, (low, high) in ranges.items():
        if not _is_quantized_concat(tensors[name], quantized):
            limits = (opset13.constant(np.float32(limit)) for limit in (low, high, low, high))
            node = opset13.fake_quantize(tensors[name], *limits, LEVELS)
            for consumer in consumers[name]:
                consumer.replace_source_output(node.output(0))
    graph.validate_nodes_and_infer_types()
    return len(layers)


def _tensors(graph: openvino.Model) -> dict[str, openvino.Output]:
    outputs = (output for node in graph.get_ordered_ops() for output in node.outputs())
    return {name: output for output in outputs for name in output.get_names()}


def _id(output: openvino.Output) -> tuple[str, int]:
    """What identifies a tensor; not every one has a name."""
    return output.get_node().get_friendly_name(), output.get_index()


def _int8_consumers(
    output: openvino.Output, layers: list[openvino.Node], quantized: TensorIds
) -> list[openvino.Input]:
    """The inputs that take a tensor's quantized values; all others keep the exact ones."""
    names = {layer.get_friendly_name() for layer in layers}
    return [
        target
        for target in output.get_target_inputs()
        if (target.get_node().get_friendly_name() in names and target.get_index() == 0)
        or (
            target.get_node().get_type_name() in INT8_TO_INT8
            and _id(target.get_node().output(0)) in quantized
        )
    ]


def _is_quantized_concat(output: openvino.Output, quantized: TensorIds) -> bool:
    """Whether it concatenates quantized tensors, and must not be quantized again."""
    node = output.get_node()
    return node.get_type_name() == "Concat" and all(
        _id(part) in quantized or part.get_node().get_type_name() == "FakeQuantize"
        for part in node.input_values()
    )


def _quantize_weights(layer: openvino.Node) -> None:
    weights: NDArray[np.float32] = layer.input_value(1).get_node().get_data().astype(np.float32)
    axes = CHANNEL_AXES[layer.get_type_name()]
    high = np.maximum(np.abs(weights).max(axis=axes, keepdims=True), MIN_RANGE)
    limits = (opset13.constant(limit.astype(np.float32)) for limit in (-high, high, -high, high))
    node = opset13.fake_quantize(opset13.constant(weights), *limits, WEIGHT_LEVELS)
    layer.input(1).replace_source_output(node.output(0))
