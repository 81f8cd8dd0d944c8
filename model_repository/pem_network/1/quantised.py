"""INT8 in a float graph: the roundings from which OpenVINO makes convolutions of bytes.

Which tensors are rounded, and how far their values reach, was measured when the graph was exported
and lies beside it as JSON. A convolution that reads such a tensor gets its weights rounded as well,
with a scale for each channel out, and then computes in INT8. Where all parts of a concatenation
are rounded, with its one scale, it moves bytes; the same is true of an average pool.
"""

import json
from pathlib import Path

import numpy as np
import openvino
from numpy.typing import NDArray
from openvino import opset13
from openvino.passes import ConstantFolding, Manager

Ends = tuple[float, float]  # the lowest and the highest value that INT8 reaches
Ranges = dict[str, Ends]  # of each tensor, by its name in ONNX
Rounded = dict[tuple[str, int], Ends]  # the same by its place in OpenVINO's graph

WEIGHTS = ["framework", "weights_sha256"]  # where OpenVINO puts what ONNX's metadata say
LEVELS = 256  # of an activation
WEIGHT_LEVELS = 255  # symmetric: -127 to 127
SMALLEST = 1e-9  # a channel of zeros still needs a range
# The axes of one channel out, in the weights as OpenVINO lays them out.
ONE_CHANNEL = {
    "Convolution": (1, 2, 3),
    "GroupConvolution": (2, 3, 4),
    "ConvolutionBackpropData": (0, 2, 3),
}
PASSING = ("Concat", "AvgPool")  # compute bytes from bytes


def read_ranges(path: Path, graph: openvino.Model) -> tuple[Ranges, str]:
    """The ranges at `path`, if they are of this graph; else none, and the reason."""
    if not path.is_file():
        return {}, f"there is no {path.name} beside the graph"
    told = json.loads(path.read_text(encoding="utf-8"))
    weights = graph.get_rt_info(WEIGHTS).value if graph.has_rt_info(WEIGHTS) else None
    if weights != told["weights_sha256"]:
        return {}, f"{path.name} was measured with other weights"
    ranges = {name: (low, high) for name, (low, high) in told["ranges"].items()}
    if missing := ranges.keys() - _tensors(graph).keys():
        return {}, f"{path.name} names a tensor that the graph has not, {min(missing)}"
    return ranges, ""


def quantise(graph: openvino.Model, ranges: Ranges) -> int:
    """Insert the roundings into `graph`; returns the number of convolutions that they make INT8."""
    folding = Manager()
    folding.register_pass(ConstantFolding())  # weights are stored in half precision, and scaled
    folding.run_passes(graph)
    tensors = _tensors(graph)
    rounded = {_place(tensors[name]): ends for name, ends in ranges.items()}
    layers = [
        node
        for node in graph.get_ordered_ops()
        if node.get_type_name() in ONE_CHANNEL
        and _place(node.input_value(0)) in rounded
        and node.input_value(1).get_node().get_type_name() == "Constant"
    ]
    readers = {name: _readers(tensors[name], layers, rounded) for name in ranges}
    for layer in layers:
        _round_weights(layer)
    for name, (low, high) in ranges.items():
        if not _is_gathered(tensors[name], rounded):
            ends = (opset13.constant(np.float32(end)) for end in (low, high, low, high))
            bytes_of = opset13.fake_quantize(tensors[name], *ends, LEVELS)
            for reader in readers[name]:
                reader.replace_source_output(bytes_of.output(0))
    graph.validate_nodes_and_infer_types()
    return len(layers)


def _tensors(graph: openvino.Model) -> dict[str, openvino.Output]:
    outputs = (output for node in graph.get_ordered_ops() for output in node.outputs())
    return {name: output for output in outputs for name in output.get_names()}


def _place(output: openvino.Output) -> tuple[str, int]:
    """What tells a tensor from every other one; not every tensor has a name."""
    return output.get_node().get_friendly_name(), output.get_index()


def _readers(
    output: openvino.Output, layers: list[openvino.Node], rounded: Rounded
) -> list[openvino.Input]:
    """The inputs that take a tensor's rounded values; what else reads it takes the exact ones."""
    names = {layer.get_friendly_name() for layer in layers}
    return [
        reader
        for reader in output.get_target_inputs()
        if (reader.get_node().get_friendly_name() in names and reader.get_index() == 0)
        or (
            reader.get_node().get_type_name() in PASSING
            and _place(reader.get_node().output(0)) in rounded
        )
    ]


def _is_gathered(output: openvino.Output, rounded: Rounded) -> bool:
    """Whether it is a concatenation of rounded tensors, which must not be rounded again."""
    node = output.get_node()
    return node.get_type_name() == "Concat" and all(
        _place(part) in rounded or part.get_node().get_type_name() == "FakeQuantize"
        for part in node.input_values()
    )


def _round_weights(layer: openvino.Node) -> None:
    weights: NDArray[np.float32] = layer.input_value(1).get_node().get_data().astype(np.float32)
    axes = ONE_CHANNEL[layer.get_type_name()]
    reach = np.maximum(np.abs(weights).max(axis=axes, keepdims=True), SMALLEST)
    ends = (opset13.constant(end.astype(np.float32)) for end in (-reach, reach, -reach, reach))
    rounded = opset13.fake_quantize(opset13.constant(weights), *ends, WEIGHT_LEVELS)
    layer.input(1).replace_source_output(rounded.output(0))
