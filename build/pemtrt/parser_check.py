"""Prove on a CPU that TensorRT's parser takes a graph on a T4.

operators.json lists the operators of one parser version with the element types that compute
capability 7.5 has. What is proven: every node is in the list with its types and attributes; uint8
is cast from and to floats at the ends of the graph and nowhere else; no shape depends on what is
in an image; every shape follows from the batch size, for 1 to 8. What is not: speed, and that
the builder finds kernels.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import onnx
from onnx import defs

from pemtrt.errors import EngineError
from pemtrt.graph_types import BATCHES, Value, infer
from pemtrt.parser_rules import RESTRICTIONS, Node

LIST = Path(__file__).with_name("operators.json")
FLOATS = ("FP32", "FP16")
# What may stand in a parameter that is not the operator's data: indices, scales, conditions.
AUXILIARY = (*FLOATS, "INT32", "INT64", "BOOL")
# Operators whose outputs' shape depends on values, whatever their inputs are.
DATA_DEPENDENT = ("NonZero", "NonMaxSuppression", "Unique", "Compress")
# Inputs that decide a shape: by operator, their positions.
SHAPE_INPUTS = {
    "Reshape": (1,),
    "Expand": (1,),
    "Tile": (1,),
    "ConstantOfShape": (0,),
    "Range": (0, 1, 2),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "Resize": (2, 3),
    "TopK": (1,),
    "OneHot": (1,),
    "Pad": (1, 3),
    "Squeeze": (1,),
    "Unsqueeze": (1,),
}


@dataclass(frozen=True)
class OperatorList:
    """What one version of the parser supports on one architecture."""

    parser: str
    architecture: str
    opset: tuple[int, int]
    types: dict[str, tuple[str, ...]]
    restricted: frozenset[str]  # operators with a rule of their own, see restrictions.py


@dataclass
class Proof:
    """The problems of a graph, each a sentence, and what was inferred on the way."""

    problems: list[str]
    nodes: int
    values: dict[str, Value]  # for the largest batch; not all of them where there are problems


@cache
def operator_list() -> OperatorList:
    """The list that comes with this package."""
    data: dict[str, Any] = json.loads(LIST.read_text(encoding="utf-8"))
    return OperatorList(
        parser=data["parser"],
        architecture=data["architecture"],
        opset=(data["opset"][0], data["opset"][1]),
        types={name: tuple(types.split()) for name, types in data["operators"].items()},
        restricted=frozenset(data["restricted"]),
    )


def prove(model: onnx.ModelProto) -> Proof:
    """Check a whole graph; its `problems` are empty when TensorRT takes it."""
    nodes = len(model.graph.node)
    found = list(opset_problems(model))
    if unknown := list(unknown_operators(model)):
        return Proof([*found, *unknown], nodes, infer(model, BATCHES[-1], strict=False))
    try:
        values = infer(model, BATCHES[-1])
        found += shape_problems(model)
    except EngineError as error:
        return Proof([*found, str(error)], nodes, infer(model, BATCHES[-1], strict=False))
    constants, shapes = known_before_running(model)
    opset = next((entry.version for entry in model.opset_import if not entry.domain), 0)
    for proto in model.graph.node:
        node = Node(proto, values, constants, opset)
        found += operator_problems(node)
        found += uint8_problems(node, model.graph)
        found += dependence_problems(node, shapes)
    return Proof(found, nodes, values)


def opset_problems(model: onnx.ModelProto) -> Iterator[str]:
    """The operators' version must be one that the parser knows."""
    first, last = operator_list().opset
    versions = {entry.domain: entry.version for entry in model.opset_import}
    if not first <= versions.get("", 0) <= last:
        yield (
            f"The graph must be of opset {first} to {last}, and is of {versions.get('', 0)}: "
            "export it with opset 17."
        )
    if model.functions or model.graph.sparse_initializer:
        yield "The graph must hold plain nodes and tensors only: export it without functions."


def unknown_operators(model: onnx.ModelProto) -> Iterator[str]:
    """Every node must be of an operator in the list."""
    known = operator_list()
    for node in model.graph.node:
        if node.domain not in ("", "ai.onnx") or node.op_type not in known.types:
            yield (
                f"{node.op_type} {node.name} is not among the operators of {known.parser}: express "
                "it by others."
            )


def shape_problems(model: onnx.ModelProto) -> Iterator[str]:
    """For any batch at most one length of a tensor is open; for each of 1 to 8, none."""
    for batch in (None, *BATCHES):
        allowed = 1 if batch is None else 0
        values = infer(model, batch)
        for node in model.graph.node:
            for name in filter(None, node.output):
                shape = values[name].shape if name in values else None
                if shape is None or shape.count(None) > allowed:
                    yield (
                        f"The shape of {name}, which {node.op_type} {node.name} makes, must follow "
                        f"from a batch of {batch or 'any size'}, and is {shape or 'not known'}."
                    )
        for output in model.graph.output:
            shape = values[output.name].shape
            if batch and shape and shape[0] not in (batch, None):
                yield f"Output {output.name} must have the batch in front, and is {shape}."


def operator_problems(node: Node) -> Iterator[str]:
    """The node's types and attributes must be those that the list allows."""
    known = operator_list()
    for name, variable, kind in _typed_parameters(node):
        allowed = known.types[node.kind]
        if variable != _data_variable(node):
            allowed = (*allowed, *AUXILIARY)
        if node.kind in ("QuantizeLinear", "DequantizeLinear"):
            allowed = (*FLOATS, "INT8")
        if kind == "UINT8" and node.kind == "Cast":
            continue  # uint8_problems says where
        if kind not in allowed:
            yield (
                f"{node} has {name} of type {kind}, and {known.parser} takes "
                f"{', '.join(known.types[node.kind])} there on {known.architecture}: cast it."
            )
    if node.kind in known.restricted:
        rule = RESTRICTIONS.get(node.kind)
        complaint = rule(node) if rule else "has a rule in that parser that is not checked here"
        if complaint:
            yield f"{node} {complaint}."


def uint8_problems(node: Node, graph: onnx.GraphProto) -> Iterator[str]:
    """Bytes exist at the ends of a graph only, one cast away from floats."""
    for names, ends, others in (
        (node.inputs, graph.input, node.outputs),
        (node.outputs, graph.output, node.inputs),
    ):
        for name in (name for name in names if node.type_of(name) == "UINT8"):
            at_the_end = any(end.name == name for end in ends)
            if node.kind != "Cast" or not at_the_end or node.type_of(others[0]) not in FLOATS:
                yield (
                    f"{node} has the uint8 tensor {name}: TensorRT casts a uint8 input to a float "
                    "first of all, and a float to a uint8 output last of all."
                )


def dependence_problems(node: Node, shapes: set[str]) -> Iterator[str]:
    """No shape may depend on what is in an image. `shapes`: tensors known from shapes alone."""
    if node.kind in DATA_DEPENDENT:
        yield f"{node} makes a tensor whose size depends on the image: use a mask of fixed size."
    for position in SHAPE_INPUTS.get(node.kind, ()):
        name = node.inputs[position] if position < len(node.inputs) else ""
        if name and name not in shapes:
            yield f"{node} takes a shape from {name}, which depends on the image: make it fixed."


def known_before_running(model: onnx.ModelProto) -> tuple[dict[str, onnx.TensorProto], set[str]]:
    """The constants, and the names of all that follows from constants and from shapes."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    shapes = {"", *constants}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute[0].HasField("t"):
            constants[node.output[0]] = node.attribute[0].t
        if node.op_type in ("Shape", "Size") or all(name in shapes for name in node.input):
            shapes.update(node.output)
    return constants, shapes


def _typed_parameters(node: Node) -> Iterator[tuple[str, str, str]]:
    """Name, type variable of the operator's schema, and type of each tensor of a node."""
    schema = defs.get_schema(node.kind, node.opset, "")
    for names, parameters in ((node.inputs, schema.inputs), (node.outputs, schema.outputs)):
        for position, name in enumerate(names):
            parameter = parameters[min(position, len(parameters) - 1)]  # the last may repeat
            if name:
                yield name, parameter.type_str, node.type_of(name)


def _data_variable(node: Node) -> str:
    """The variable for the data that an operator computes with, as opposed to its indices."""
    schema = defs.get_schema(node.kind, node.opset, "")
    named = {parameter.type_str for parameter in schema.inputs}
    if "T" in named:
        return "T"
    return str(schema.inputs[0].type_str) if schema.inputs else str(schema.outputs[0].type_str)
