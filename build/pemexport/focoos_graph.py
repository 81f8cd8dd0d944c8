"""A graph that the Focoos SDK wrote, brought to the tensor contract of this project.

Both known forms take (B, 3, H, W) of 0..255 and normalise inside. They differ in their outputs:

| form | written by | outputs, in this order |
|---|---|---|
| index map | SDK 0.9's hub | class ids (B, Q), query index of each pixel (B, H, W), scores (B, Q) |
| probabilities | SDK 0.25's export | masks 0..1 (B, Q, h, w), class probabilities (B, Q, K) |

Shapes and values tell them apart, never names: the SDK's BiSeNetFormer calls its masks `logits` and
its probabilities `masks`.

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
MASK_STRIDES = (1, 2, 4)  # that readers of the index map know
OLDEST_OPSET = 13  # since then Unsqueeze takes its axes as an input
PREFIX = "focoos/"  # the graph's own names get it, so that they cannot meet the contract's
IMAGE_TYPES = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.UINT8)

Outputs = Mapping[str, NDArray[Any]]


class ForeignGraphError(ValueError):
    """The graph is none that the Focoos SDK writes for this model; the message is a sentence."""


@dataclass(frozen=True)
class IndexMapForm:
    """Names of the outputs of a graph that takes the argmax itself."""

    class_ids: str
    masks: str
    scores: str

    def __str__(self) -> str:
        return "index map"


@dataclass(frozen=True)
class ProbabilityForm:
    """Names of the outputs of a graph that leaves the argmax to its reader."""

    masks: str
    probabilities: str
    stride: int  # of the masks

    def __str__(self) -> str:
        return f"probabilities, masks at stride {self.stride}"


Form = IndexMapForm | ProbabilityForm


def image_input(model: onnx.ModelProto, size: int) -> onnx.ValueInfoProto:
    """The graph's one input; ForeignGraphError unless it takes (B, 3, size, size) images."""
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    if len(inputs) != 1:
        raise ForeignGraphError(f"the graph must have one input, an image, got {len(inputs)}")
    kind = inputs[0].type.tensor_type
    dims = [dim.dim_value for dim in kind.shape.dim]  # 0 where it is open
    wanted = (None, 3, size, size)  # any batch
    if len(dims) != 4 or any(d and w and d != w for d, w in zip(dims, wanted, strict=True)):
        raise ForeignGraphError(
            f"the graph's input must take images (batch, 3, {size}, {size}), got {tuple(dims)} "
            "(0 is any); export it at that size or with open height and width"
        )
    if kind.elem_type not in IMAGE_TYPES:
        name = TensorProto.DataType.Name(kind.elem_type)
        raise ForeignGraphError(f"the graph's input must be FLOAT, FLOAT16 or UINT8, got {name}")
    return inputs[0]


def recognise(outputs: Outputs, size: int) -> Form:
    """The form of a graph, from what it answers to images of `size`, in its own order.

    ForeignGraphError, with what it answered, when that is no form of the SDK.
    """
    ranks = sorted(value.ndim for value in outputs.values())
    if ranks == [2, 2, 3]:
        form: Form = _index_map_form(outputs)
    elif ranks == [3, 4]:
        form = _probability_form(outputs, size)
    else:
        raise _unknown(outputs)
    _check_values(form, outputs, size)
    return form


def _index_map_form(outputs: Outputs) -> IndexMapForm:
    masks = next(name for name, value in outputs.items() if value.ndim == 3)
    first, second = (name for name, value in outputs.items() if value.ndim == 2)
    # The SDK reads by position: class ids, masks, scores. Types decide where they can.
    if outputs[first].dtype.kind == "f" and outputs[second].dtype.kind in "iu":
        first, second = second, first
    return IndexMapForm(class_ids=first, masks=masks, scores=second)


def _probability_form(outputs: Outputs, size: int) -> ProbabilityForm:
    masks = next(name for name, value in outputs.items() if value.ndim == 4)
    probabilities = next(name for name in outputs if name != masks)
    height, width = outputs[masks].shape[2:]
    if height != width or size % height:
        raise ForeignGraphError(
            f"masks must be a whole number of times smaller than {size} x {size}, "
            f"got {height} x {width}"
        )
    return ProbabilityForm(masks=masks, probabilities=probabilities, stride=size // height)


def _unknown(outputs: Outputs) -> ForeignGraphError:
    got = ", ".join(f"{name} {value.shape}" for name, value in outputs.items())
    return ForeignGraphError(
        "the graph's outputs must be class ids (B, Q), masks (B, H, W) and scores (B, Q), or masks "
        f"(B, Q, h, w) and class probabilities (B, Q, K), as the Focoos SDK writes them, got {got}"
    )


def _check_values(form: Form, outputs: Outputs, size: int) -> None:
    """That sizes and values mean what the form says: a raw logit would pass by shape alone."""
    classes = len(contract.class_names())
    if isinstance(form, IndexMapForm):
        edge = outputs[form.masks].shape[-1]
        _demand("queries", outputs[form.scores].shape[1], QUERIES)
        if outputs[form.masks].shape[1:] != (edge, edge) or edge * (size // edge) != size:
            raise _unknown(outputs)
        if size // edge not in MASK_STRIDES:
            raise ForeignGraphError(f"the index map must have stride 1, 2 or 4, got {size // edge}")
        _demand_whole("class ids", outputs[form.class_ids], classes)
        _demand_whole("masks", outputs[form.masks], QUERIES)
        _demand_shares("scores", outputs[form.scores])
        return
    _demand("queries", outputs[form.masks].shape[1], QUERIES)
    _demand("queries", outputs[form.probabilities].shape[1], QUERIES)
    _demand("classes (labels.txt names them)", outputs[form.probabilities].shape[2], classes)
    _demand_shares("masks", outputs[form.masks])
    _demand_shares("class probabilities", outputs[form.probabilities])


def _demand(what: str, got: int, wanted: int) -> None:
    if got != wanted:
        raise ForeignGraphError(f"the graph must have {wanted} {what}, got {got}")


def _demand_whole(what: str, values: NDArray[Any], count: int) -> None:
    if (values != np.round(values)).any() or values.min() < 0 or values.max() >= count:
        raise ForeignGraphError(
            f"{what} must be whole numbers from 0 to {count - 1}, "
            f"got {values.min()} to {values.max()}"
        )


def _demand_shares(what: str, values: NDArray[Any]) -> None:
    if not (values.min() >= -1e-6 and values.max() <= 1 + 1e-3):  # NaN fails as well
        raise ForeignGraphError(
            f"{what} must be from 0 to 1, got {values.min():.3g} to {values.max():.3g}; "
            "the SDK's graphs apply softmax and sigmoid themselves"
        )


def wrap(
    model: onnx.ModelProto, form: Form, *, size: int, map_size: int, bgr: bool
) -> onnx.ModelProto:
    """The same graph with the contract's input and outputs; `model` itself stays as it is.

    `size` is the image's height and width, `map_size` that of the index map. With `bgr` the
    colours are reversed on the way in.
    """
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    if opset < OLDEST_OPSET:
        raise ForeignGraphError(f"the graph must be of opset {OLDEST_OPSET} or later, got {opset}")
    image = image_input(model, size)
    wrapped = onnx.compose.add_prefix(model, PREFIX)
    graph = wrapped.graph
    own_nodes = list(graph.node)
    del graph.node[:], graph.value_info[:], graph.output[:]  # they speak of the old batch size
    graph.node.extend(_entrance(PREFIX + image.name, image.type.tensor_type.elem_type, bgr))
    graph.node.extend(own_nodes)
    graph.node.extend(_exit(form, opset, graph))
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
        graph.initializer.append(numpy_helper.from_array(order, "colour_order"))
    onnx.checker.check_model(wrapped, full_check=True)
    return wrapped


def _value(name: str, kind: int, dims: list[int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, ["batch", *dims])


def _entrance(target: str, kind: int, bgr: bool) -> list[onnx.NodeProto]:
    """From (B, H, W, 3) RGB uint8 to (B, 3, H, W) of the graph's type and colour order."""
    # The cast comes first: TensorRT does nothing with uint8 but cast it.
    nodes = [helper.make_node("Cast", [contract.IMAGE], ["image_float"], to=TensorProto.FLOAT)]
    image = "image_float"
    if bgr:
        nodes.append(helper.make_node("Gather", [image, "colour_order"], ["bgr"], axis=3))
        image = "bgr"
    nodes.append(helper.make_node("Transpose", [image], ["planes"], perm=[0, 3, 1, 2]))
    nodes.append(helper.make_node("Cast", ["planes"], [target], to=kind))
    return nodes


def _exit(form: Form, opset: int, graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    if isinstance(form, IndexMapForm):
        return [
            _cast(PREFIX + form.class_ids, contract.CLASS_IDS, TensorProto.INT32),
            _cast(PREFIX + form.scores, contract.SCORES, TensorProto.FLOAT),
            *_as_map(PREFIX + form.masks),
        ]
    probabilities, masks = PREFIX + form.probabilities, PREFIX + form.masks
    nodes = [
        _cast(probabilities, "probabilities", TensorProto.FLOAT),
        _cast(masks, "mask_shares", TensorProto.FLOAT),
        _maximum("probabilities", contract.SCORES, 2, opset, graph),
        helper.make_node("ArgMax", ["probabilities"], ["best_class"], axis=2, keepdims=0),
        _cast("best_class", contract.CLASS_IDS, TensorProto.INT32),
        helper.make_node("Unsqueeze", [contract.SCORES, "two_last"], ["weights"]),
        helper.make_node("Mul", ["mask_shares", "weights"], ["weighted"]),  # (B, Q, h, w)
    ]
    graph.initializer.append(numpy_helper.from_array(np.array([2, 3], np.int64), "two_last"))
    weighted = "weighted"
    if form.stride > 1:
        # Enlarging is linear, so it may follow the multiplication with the score.
        scales = np.array([1, 1, form.stride, form.stride], np.float32)
        graph.initializer.append(numpy_helper.from_array(scales, "scales"))
        how = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
        nodes.append(helper.make_node("Resize", [weighted, "", "scales"], ["enlarged"], **how))
        weighted = "enlarged"
    nodes.append(helper.make_node("ArgMax", [weighted], ["winner"], axis=1, keepdims=0))
    return [*nodes, *_as_map("winner")]


def _as_map(source: str) -> list[onnx.NodeProto]:
    """By way of float32: TensorRT casts to uint8 from float types only."""
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
