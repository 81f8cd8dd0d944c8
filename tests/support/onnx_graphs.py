"""Small ONNX graphs, their nodes as lines of text."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

Tensors = Mapping[str, tuple[int, Sequence[str | int] | None]]  # type and shape by name


def node(line: str, name: str = "", **attributes: Any) -> NodeProto:
    """Of a line such as "y = Conv image weight"; two blanks stand for an input left out."""
    outputs, operation = line.split(" = ")
    kind, *inputs = operation.split(" ")
    return helper.make_node(kind, inputs, outputs.split(), name, **attributes)


def model_of(
    nodes: Sequence[NodeProto],
    inputs: Tensors,
    outputs: Tensors,
    constants: Mapping[str, np.ndarray | np.generic | TensorProto],
    opset: int = 19,
) -> ModelProto:
    ends = [
        [helper.make_tensor_value_info(name, *facts) for name, facts in tensors.items()]
        for tensors in (inputs, outputs)
    ]
    weights = [
        value if isinstance(value, TensorProto) else numpy_helper.from_array(value, name)
        for name, value in constants.items()
    ]
    graph = helper.make_graph(nodes, "small", *ends, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
