"""Wrap a graph of the Focoos SDK in the tensor contract of this project.

Both known layouts take (B, 3, H, W) of 0..255 and normalize inside. They differ in their outputs:

| layout | written by | outputs, in this order |
|---|---|---|
| index map | SDK 0.9's hub | class ids (B, Q), query index of each pixel (B, H, W), scores (B, Q) |
| probabilities | SDK 0.25's export | masks 0..1 (B, Q, h, w), class probabilities (B, Q, K) |

They are distinguished by shapes and values, never by names: the SDK's BiSeNetFormer calls its masks
`logits` and its probabilities `masks`.

B batch, Q queries, K classes without "no object", H and W the size of the image.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from . import contract

QUERIES = 100  # the configurations state it
MASK_STRIDES = (1, 2, 4)  # that the consumers of the index map support
OLDEST_OPSET = 13  # since then Unsqueeze has its axes as an input
PREFIX = "focoos/"  # of the graph's own names, so that they differ from the contract's
IMAGE_TYPES = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.UINT8)

Outputs = Mapping[str, NDArray[Any]]


class ForeignGraphError(ValueError):
    """The graph is not one that the Focoos SDK writes for this model."""


@dataclass(frozen=True)
class IndexMapLayout:
    """Output names of a graph that includes the argmax."""

    class_ids: str
    masks: str
    scores: str

    def __str__(self) -> str:
        return "index map"


@dataclass(frozen=True)
class ProbabilityLayout:
    """Output names of a graph without the argmax."""

    masks: str
    probabilities: str
    stride: int  # of the masks

    def __str__(self) -> str:
        return f"probabilities, masks at stride {self.stride}"


Layout = IndexMapLayout | ProbabilityLayout


def image_input(model: onnx.ModelProto, size: int) -> onnx.ValueInfoProto:
    """The graph's one input; ForeignGraphError unless it takes (B, 3, size, size) images."""
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    if len(inputs) != 1:
        raise ForeignGraphError(f"the graph must have one input, got {len(inputs)}")
    kind = inputs[0].type.tensor_type
    dims = [dim.dim_value for dim in kind.shape.dim]  # 0 where it is dynamic
    sides = (3, size, size)
    if len(dims) != 4 or any(d not in (0, s) for d, s in zip(dims[1:], sides, strict=True)):
        raise ForeignGraphError(
            f"the graph's input must take images (batch, 3, {size}, {size}), got {tuple(dims)} "
            "(0 is dynamic); export it at that size or with dynamic height and width"
        )
    if kind.elem_type not in IMAGE_TYPES:
        name = TensorProto.DataType.Name(kind.elem_type)
        raise ForeignGraphError(f"the graph's input must be FLOAT, FLOAT16 or UINT8, got {name}")
    return inputs[0]


def detect_layout(outputs: Outputs, size: int) -> Layout:
    """The layout of a graph, from its outputs for an image of `size`, in its own order.

    ForeignGraphError, with the outputs, if it is not a layout of the SDK.
    """
    ranks = sorted(value.ndim for value in outputs.values())
    if ranks == [2, 2, 3]:
        layout: Layout = _index_map_layout(outputs)
    elif ranks == [3, 4]:
        layout = _probability_layout(outputs, size)
    else:
        raise _unknown(outputs)
    _check_values(layout, outputs, size)
    return layout


def _index_map_layout(outputs: Outputs) -> IndexMapLayout:
    masks = next(name for name, value in outputs.items() if value.ndim == 3)
    first, second = (name for name, value in outputs.items() if value.ndim == 2)
    # The SDK's order is class ids, masks, scores; types decide where they can.
    if outputs[first].dtype.kind == "f" and outputs[second].dtype.kind in "iu":
        first, second = second, first
    return IndexMapLayout(class_ids=first, masks=masks, scores=second)


def _probability_layout(outputs: Outputs, size: int) -> ProbabilityLayout:
    masks = next(name for name, value in outputs.items() if value.ndim == 4)
    probabilities = next(name for name in outputs if name != masks)
    height, width = outputs[masks].shape[2:]
    if height != width or size % height:
        raise ForeignGraphError(
            f"masks must be a whole number of times smaller than {size} x {size}, "
            f"got {height} x {width}"
        )
    return ProbabilityLayout(masks=masks, probabilities=probabilities, stride=size // height)


def _unknown(outputs: Outputs) -> ForeignGraphError:
    got = ", ".join(f"{name} {value.shape}" for name, value in outputs.items())
    return ForeignGraphError(
        "the graph's outputs must be class ids (B, Q), masks (B, H, W) and scores (B, Q), or masks "
        f"(B, Q, h, w) and class probabilities (B, Q, K), as the Focoos SDK writes them, got {got}"
    )


def _check_values(layout: Layout, outputs: Outputs, size: int) -> None:
    """Sizes and values must match the layout: raw logits would pass by shape alone."""
    classes = len(contract.class_names())
    if isinstance(layout, IndexMapLayout):
        edge = outputs[layout.masks].shape[-1]
        _require_count("queries", outputs[layout.scores].shape[1], QUERIES)
        if outputs[layout.masks].shape[1:] != (edge, edge) or edge * (size // edge) != size:
            raise _unknown(outputs)
        if size // edge not in MASK_STRIDES:
            raise ForeignGraphError(f"the index map must have stride 1, 2 or 4, got {size // edge}")
        _require_indices("class ids", outputs[layout.class_ids], classes)
        _require_indices("masks", outputs[layout.masks], QUERIES)
        _require_probabilities("scores", outputs[layout.scores])
        return
    _require_count("queries", outputs[layout.masks].shape[1], QUERIES)
    _require_count("queries", outputs[layout.probabilities].shape[1], QUERIES)
    _require_count(
        "classes (labels.txt names them)", outputs[layout.probabilities].shape[2], classes
    )
    _require_probabilities("masks", outputs[layout.masks])
    _require_probabilities("class probabilities", outputs[layout.probabilities])


def _require_count(what: str, got: int, expected: int) -> None:
    if got != expected:
        raise ForeignGraphError(f"the graph must have {expected} {what}, got {got}")


def _require_indices(what: str, values: NDArray[Any], count: int) -> None:
    if (values != np.round(values)).any() or values.min() < 0 or values.max() >= count:
        raise ForeignGraphError(
            f"{what} must be whole numbers from 0 to {count - 1}, "
            f"got {values.min()} to {values.max()}"
        )


def _require_probabilities(what: str, values: NDArray[Any]) -> None:
    if not (values.min() >= -1e-6 and values.max() <= 1 + 1e-3):  # NaN fails as well
        raise ForeignGraphError(
            f"{what} must be from 0 to 1, got {values.min():.3g} to {values.max():.3g}; "
            "the SDK's graphs apply softmax and sigmoid themselves"
        )


def wrap(
    model: onnx.ModelProto, layout: Layout, *, size: int, map_size: int, bgr: bool
) -> onnx.ModelProto:
    """A copy of the graph with the contract's input and outputs.

    `size` is the image's height and width, `map_size` that of the index map. With `bgr` the
    color channels are reversed first.
    """
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    if opset < OLDEST_OPSET:
        raise ForeignGraphError(f"the graph must be of opset {OLDEST_OPSET} or later, got {opset}")
    image = image_input(model, size)
    wrapped = onnx.compose.add_prefix(model, PREFIX)
    graph = wrapped.graph
    own_nodes = list(graph.node)
    del graph.node[:], graph.value_info[:], graph.output[:]  # of the old batch size
    graph.node.extend(_input_nodes(PREFIX + image.name, image.type.tensor_type.elem_type, bgr))
    graph.node.extend(own_nodes)
    graph.node.extend(_output_nodes(layout, opset, graph))
    for value in list(graph.input):
        if value.name == PREFIX + image.name:
            graph.input.remove(value)
    graph.input.append(_value(contract.IMAGE, TensorProto.UINT8, [size, size, 3]))
    graph.output.extend(
        [
            _value(contract.CLASS_IDS, TensorProto.INT32, [QUERIES]),
            _value(contract.SCORES, TensorProto.FLOAT, [QUERIES]),
            _value(contract.MASKS, TensorProto.UINT8, [map_size, map_size]),
        ]
    )
    if bgr:
        order = np.array([2, 1, 0], np.int64)
        graph.initializer.append(numpy_helper.from_array(order, "channel_order"))
    onnx.checker.check_model(wrapped, full_check=True)
    return wrapped


def _value(name: str, kind: int, dims: list[int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, ["batch", *dims])


def _input_nodes(target: str, kind: int, bgr: bool) -> list[onnx.NodeProto]:
    """From (B, H, W, 3) RGB uint8 to (B, 3, H, W) of the graph's type and channel order."""
    # The cast comes first: TensorRT supports nothing else with uint8.
    nodes = [helper.make_node("Cast", [contract.IMAGE], ["image_float"], to=TensorProto.FLOAT)]
    image = "image_float"
    if bgr:
        nodes.append(helper.make_node("Gather", [image, "channel_order"], ["bgr"], axis=3))
        image = "bgr"
    nodes.append(helper.make_node("Transpose", [image], ["planes"], perm=[0, 3, 1, 2]))
    nodes.append(helper.make_node("Cast", ["planes"], [target], to=kind))
    return nodes


def _output_nodes(layout: Layout, opset: int, graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    if isinstance(layout, IndexMapLayout):
        return [
            _cast(PREFIX + layout.class_ids, contract.CLASS_IDS, TensorProto.INT32),
            _cast(PREFIX + layout.scores, contract.SCORES, TensorProto.FLOAT),
            *_as_map(PREFIX + layout.masks),
        ]
    probabilities, masks = PREFIX + layout.probabilities, PREFIX + layout.masks
    nodes = [
        _cast(probabilities, "probabilities", TensorProto.FLOAT),
        _cast(masks, "mask_probabilities", TensorProto.FLOAT),
        _maximum("probabilities", contract.SCORES, 2, opset, graph),
        helper.make_node("ArgMax", ["probabilities"], ["best_class"], axis=2, keepdims=0),
        _cast("best_class", contract.CLASS_IDS, TensorProto.INT32),
        helper.make_node("Unsqueeze", [contract.SCORES, "two_last"], ["weights"]),
        helper.make_node("Mul", ["mask_probabilities", "weights"], ["weighted"]),  # (B, Q, h, w)
    ]
    graph.initializer.append(numpy_helper.from_array(np.array([2, 3], np.int64), "two_last"))
    weighted = "weighted"
    if layout.stride > 1:
        # Upsampling is linear, so it may follow the multiplication by the score.
        scales = np.array([1, 1, layout.stride, layout.stride], np.float32)
        graph.initializer.append(numpy_helper.from_array(scales, "scales"))
        mode = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
        nodes.append(helper.make_node("Resize", [weighted, "", "scales"], ["upsampled"], **mode))
        weighted = "upsampled"
    nodes.append(helper.make_node("ArgMax", [weighted], ["winner"], axis=1, keepdims=0))
    return [*nodes, *_as_map("winner")]


def _as_map(source: str) -> list[onnx.NodeProto]:
    """Via float32: TensorRT casts to uint8 from float types only."""
    first = _cast(source, "map_float", TensorProto.FLOAT)
    return [first, _cast("map_float", contract.MASKS, TensorProto.UINT8)]


def _maximum(
    source: str, target: str, axis: int, opset: int, graph: onnx.GraphProto
) -> onnx.NodeProto:
    if opset < 18:  # then axes became an input
        return helper.make_node("ReduceMax", [source], [target], axes=[axis], keepdims=0)
    graph.initializer.append(numpy_helper.from_array(np.array([axis], np.int64), "class_axis"))
    return helper.make_node("ReduceMax", [source, "class_axis"], [target], keepdims=0)


def _cast(source: str, target: str, kind: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [source], [target], to=kind)
