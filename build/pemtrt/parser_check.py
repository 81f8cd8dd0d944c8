"""Check on a CPU that TensorRT's parser accepts a graph for a T4.

Scaffolding until the project has a T4: the real parser then answers this, and this file,
parser_rules.py and operators.json can be deleted.

operators.json lists the operators of one parser version with the element types that compute
capability 7.5 has. Checked: every node is in the list with its types and attributes; uint8 is cast
from and to floats at the ends of the graph and nowhere else; no shape depends on an image's
content; every shape follows from the batch size, for 1 to 8. Not checked: speed, and whether the
builder finds kernels.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import onnx
from onnx import defs

from pemtrt.graph_types import BATCHES, Value, infer
from pemtrt.manifest import EngineError
from pemtrt.parser_rules import RESTRICTIONS, Node

LIST = Path(__file__).with_name("operators.json")
FLOATS = ("FP32", "FP16")
# Types of parameters that are not the operator's data: indices, scales, conditions.
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
    restricted: frozenset[str]  # operators with a rule of their own, see parser_rules.py


@dataclass
class ParserCheck:
    """The problems of a graph, and the types and shapes that were inferred."""

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


def check_graph(model: onnx.ModelProto) -> ParserCheck:
    """Check a whole graph; `problems` is empty when TensorRT accepts it."""
    nodes = len(model.graph.node)
    found = list(opset_problems(model))
    if unknown := list(unknown_operators(model)):
        return ParserCheck([*found, *unknown], nodes, infer(model, BATCHES[-1], strict=False))
    try:
        values = infer(model, BATCHES[-1])
        found += shape_problems(model)
    except EngineError as error:
        return ParserCheck([*found, str(error)], nodes, infer(model, BATCHES[-1], strict=False))
    constants, shapes = known_before_running(model)
    opset = next((entry.version for entry in model.opset_import if not entry.domain), 0)
    for proto in model.graph.node:
        node = Node(proto, values, constants, opset)
        found += operator_problems(node)
        found += uint8_problems(node, model.graph)
        found += dependence_problems(node, shapes)
    return ParserCheck(found, nodes, values)


def opset_problems(model: onnx.ModelProto) -> Iterator[str]:
    """The operators' version must be one that the parser knows."""
    first, last = operator_list().opset
    versions = {entry.domain: entry.version for entry in model.opset_import}
    if not first <= versions.get("", 0) <= last:
        yield (
            f"the graph's opset must be {first} to {last}, got {versions.get('', 0)}; export it "
            "with opset 17"
        )
    if model.functions or model.graph.sparse_initializer:
        yield "the graph has functions or sparse tensors; export it without"


def unknown_operators(model: onnx.ModelProto) -> Iterator[str]:
    """Every node must be of an operator in the list."""
    known = operator_list()
    for node in model.graph.node:
        if node.domain not in ("", "ai.onnx") or node.op_type not in known.types:
            yield (
                f"{node.op_type} {node.name} is not an operator of {known.parser}; replace it by "
                "others"
            )


def shape_problems(model: onnx.ModelProto) -> Iterator[str]:
    """For any batch at most one length of a tensor is unknown; for each of 1 to 8, none."""
    for batch in (None, *BATCHES):
        allowed = 1 if batch is None else 0
        values = infer(model, batch)
        for node in model.graph.node:
            for name in filter(None, node.output):
                shape = values[name].shape if name in values else None
                if shape is None or shape.count(None) > allowed:
                    yield (
                        f"the shape of {name}, output of {node.op_type} {node.name}, must follow "
                        f"from a batch of {batch or 'any size'}, got {shape or 'unknown'}"
                    )
        for output in model.graph.output:
            shape = values[output.name].shape
            if batch and shape and shape[0] not in (batch, None):
                yield f"output {output.name} must have the batch in front, got {shape}"


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
            continue  # see uint8_problems
        if kind not in allowed:
            yield (
                f"{node} has {name} of type {kind}, but {known.parser} accepts "
                f"{', '.join(known.types[node.kind])} on {known.architecture}; cast it"
            )
    if node.kind in known.restricted:
        rule = RESTRICTIONS.get(node.kind)
        problem = rule(node) if rule else "has a rule in that parser that is not checked here"
        if problem:
            yield f"{node} {problem}"


def uint8_problems(node: Node, graph: onnx.GraphProto) -> Iterator[str]:
    """uint8 exists at the ends of a graph only, one cast away from floats."""
    for names, ends, others in (
        (node.inputs, graph.input, node.outputs),
        (node.outputs, graph.output, node.inputs),
    ):
        for name in (name for name in names if node.type_of(name) == "UINT8"):
            at_the_end = any(end.name == name for end in ends)
            if node.kind != "Cast" or not at_the_end or node.type_of(others[0]) not in FLOATS:
                yield (
                    f"{node} has the uint8 tensor {name}; TensorRT only casts a uint8 input to a "
                    "float, and a float to a uint8 output"
                )


def dependence_problems(node: Node, shapes: set[str]) -> Iterator[str]:
    """No shape may depend on what is in an image. `shapes`: tensors known from shapes alone."""
    if node.kind in DATA_DEPENDENT:
        yield f"{node} has an output whose size depends on the image; use a mask of fixed size"
    for position in SHAPE_INPUTS.get(node.kind, ()):
        name = node.inputs[position] if position < len(node.inputs) else ""
        if name and name not in shapes:
            yield f"{node} takes a shape from {name}, which depends on the image; make it fixed"


def known_before_running(model: onnx.ModelProto) -> tuple[dict[str, onnx.TensorProto], set[str]]:
    """The constants, and the names of every tensor that follows from constants and shapes."""
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
    """The type variable of an operator's data, as opposed to its indices."""
    schema = defs.get_schema(node.kind, node.opset, "")
    named = {parameter.type_str for parameter in schema.inputs}
    if "T" in named:
        return "T"
    return str(schema.inputs[0].type_str) if schema.inputs else str(schema.outputs[0].type_str)
