"""The rules of TensorRT's ONNX parser for single operators, beyond their types.

Each rule returns the problem of one node, worded to follow the node's name, or None. An operator
that the parser restricts and that has no rule here counts as unproven. Scaffolding, like
parser_check.py.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from pemtrt.graph_types import Value

MOST_TOP_K = 3839


@dataclass(frozen=True)
class Node:
    """One node with the inferred types and shapes of the graph."""

    proto: onnx.NodeProto
    values: dict[str, Value]
    constants: dict[str, onnx.TensorProto]
    opset: int

    def __str__(self) -> str:
        return f"{self.kind} {self.proto.name or '(without a name)'}"

    @property
    def kind(self) -> str:
        return str(self.proto.op_type)

    @property
    def inputs(self) -> list[str]:
        return list(self.proto.input)

    @property
    def outputs(self) -> list[str]:
        return list(self.proto.output)

    def type_of(self, name: str) -> str:
        return self.values[name].type if name in self.values else "an unknown type"

    def rank_of(self, name: str) -> int | None:
        shape = self.values[name].shape if name in self.values else None
        return None if shape is None else len(shape)

    def attribute(self, name: str, default: Any = None) -> Any:
        for attribute in self.proto.attribute:
            if attribute.name == name:
                value = helper.get_attribute_value(attribute)
                return value.decode() if isinstance(value, bytes) else value
        return default

    def is_constant(self, position: int) -> bool:
        """Whether an input is omitted or a constant of the file."""
        names = self.inputs
        return position >= len(names) or not names[position] or names[position] in self.constants

    def constant(self, position: int) -> Any:
        """The array of a constant input, or None."""
        names = self.inputs
        if position >= len(names) or names[position] not in self.constants:
            return None
        return numpy_helper.to_array(self.constants[names[position]])


Rule = Callable[[Node], str | None]


def _pooling(node: Node) -> str | None:
    if node.rank_of(node.inputs[0]) not in (4, 5):
        return "must pool over two or three dimensions"
    if any(step != 1 for step in node.attribute("dilations", [])):
        return "must not be dilated"
    if len([name for name in node.outputs if name]) > 1:
        return "must not give indices"
    return None


def _axes(position: int) -> Rule:
    def rule(node: Node) -> str | None:
        return None if node.is_constant(position) else "must have constant axes"

    return rule


def _layer_normalization(node: Node) -> str | None:
    extra = [name for name in node.outputs[1:] if name]
    return f"must have one output, got {', '.join(extra)} too" if extra else None


def _resize(node: Node) -> str | None:
    checks = {
        "mode": ("nearest", ("nearest", "linear")),
        "coordinate_transformation_mode": (
            "half_pixel",
            (
                "half_pixel",
                "pytorch_half_pixel",
                "tf_half_pixel_for_nn",
                "asymmetric",
                "align_corners",
            ),
        ),
        "nearest_mode": (
            "round_prefer_floor",
            ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil"),
        ),
        "keep_aspect_ratio_policy": ("stretch", ("stretch",)),
        "antialias": (0, (0,)),
    }
    for name, (default, allowed) in checks.items():
        value = node.attribute(name, default)
        if value not in allowed:
            return f"must have {name} {' or '.join(map(str, allowed))}, got {value}"
    rank = node.rank_of(node.inputs[0]) or 0
    if list(node.attribute("axes", range(rank))) != list(range(rank)):
        return "must name all axes in their order"
    return None if node.is_constant(2) else "must have constant scales"


def _top_k(node: Node) -> str | None:
    if node.attribute("sorted", 1) != 1:
        return "must be sorted"
    count = node.constant(1)
    if count is None or int(np.max(count)) > MOST_TOP_K:
        return f"must take a constant number of elements, {MOST_TOP_K} at most"
    return None


def _quantization(node: Node) -> str | None:
    if not node.is_constant(1):
        return "must have a constant scale"
    if not node.is_constant(2):
        return "must have a constant zero point"
    zero = node.constant(2)
    if zero is None and node.kind == "QuantizeLinear":
        return "must name its zero point, or else it makes uint8"
    return "must have the zero point 0" if np.any(zero) else None


def _constant(node: Node) -> str | None:
    odd = [a.name for a in node.proto.attribute if a.name in UNSUPPORTED_CONSTANTS]
    return f"must not be a {odd[0]}" if odd else None


def _grid_sample(node: Node) -> str | None:
    return None if node.rank_of(node.inputs[0]) == 4 else "must sample tensors of four dimensions"


def _scatter(node: Node) -> str | None:
    return None if node.attribute("reduction", "none") == "none" else "must not reduce"


def _one_hot(node: Node) -> str | None:
    return None if node.is_constant(1) else "must have a constant depth"


UNSUPPORTED_CONSTANTS = ("sparse_value", "value_string", "value_strings")
REDUCTIONS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")
RESTRICTIONS: dict[str, Rule] = {
    "AveragePool": _pooling,
    "MaxPool": _pooling,
    "LayerNormalization": _layer_normalization,
    "Resize": _resize,
    "TopK": _top_k,
    "QuantizeLinear": _quantization,
    "DequantizeLinear": _quantization,
    "Constant": _constant,
    "GridSample": _grid_sample,
    "ScatterND": _scatter,
    "OneHot": _one_hot,
    "Slice": _axes(3),
    "Pad": _axes(3),
    "Squeeze": _axes(1),
    "Unsqueeze": _axes(1),
    "CumSum": _axes(1),
} | {f"Reduce{name}": _axes(1) for name in REDUCTIONS}
