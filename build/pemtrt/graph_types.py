"""Static analysis of an ONNX graph: types, shapes, and memory.

Types are named as TensorRT's operator list names them: FP32, FP16, INT64 and so on.
"""

import copy
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import shape_inference

from pemtrt.manifest import EngineError

BATCHES = range(1, 9)
TYPE_NAMES = {"FLOAT": "FP32", "FLOAT16": "FP16", "BFLOAT16": "BF16", "UINT4": "INT4"}
BYTES = {"FP32": 4, "FP16": 2, "INT64": 8, "INT32": 4, "INT8": 1, "UINT8": 1, "BOOL": 1}


@dataclass(frozen=True)
class Value:
    """A tensor's type and, where it could be inferred, its shape; None for a length not known."""

    type: str
    shape: tuple[int | None, ...] | None  # None: not even the number of dimensions is known


@dataclass(frozen=True)
class Memory:
    """The activations of one batch without fusion: TensorRT fuses many away."""

    largest: list[tuple[str, Value, int]]  # name, value, bytes; the largest first
    peak_bytes: int  # of all tensors that are alive at once, in the graph's order


def load(path: Path) -> onnx.ModelProto:
    """The model in a file. EngineError when there is none."""
    if not path.is_file():
        raise EngineError(f"the ONNX graph {path} is missing; make it with ./run export")
    try:
        return onnx.load(path)
    except Exception as error:  # protobuf's own class of error depends on its version
        raise EngineError(f"{path} is not a readable ONNX file: {error}") from error


def with_batch(model: onnx.ModelProto, batch: int | None) -> onnx.ModelProto:
    """A copy with the first dimension of every input set; None: any length. Outputs follow."""
    changed = copy.deepcopy(model)
    del changed.graph.value_info[:]  # inferred by the exporter for any batch size
    for value in changed.graph.input:
        dims = value.type.tensor_type.shape.dim
        if not dims:
            raise EngineError(f"{value.name} must have the batch in front, got a scalar")
        if batch is None:
            dims[0].dim_param = "batch"
        else:
            dims[0].dim_value = batch
    for value in changed.graph.output:
        for first in value.type.tensor_type.shape.dim[:1]:
            first.Clear()
    return changed


def infer(model: onnx.ModelProto, batch: int | None, *, strict: bool = True) -> dict[str, Value]:
    """Every tensor of the graph by its name, for one batch size; None: for any.

    EngineError with ONNX's own reason when the graph contradicts itself; unless `strict`, what
    cannot be inferred is omitted.
    """
    try:
        inferred = shape_inference.infer_shapes(
            with_batch(model, batch), strict_mode=strict, data_prop=True
        ).graph
    except (shape_inference.InferenceError, onnx.checker.ValidationError) as error:
        if not strict:
            return {}
        reason = " ".join(str(error).split()).rstrip(".")
        raise EngineError(f"the graph's shapes cannot be inferred: {reason}") from error
    values = {t.name: Value(type_name(t.data_type), tuple(t.dims)) for t in inferred.initializer}
    for info in (*inferred.input, *inferred.value_info, *inferred.output):
        values[info.name] = _value(info.type.tensor_type)
    return values


def type_name(number: int) -> str:
    """TensorRT's name of an element type of ONNX."""
    name = onnx.TensorProto.DataType.Name(number)
    for prefix, short in (("FLOAT8", "FP8"), ("FLOAT4", "FP4")):
        if name.startswith(prefix):
            return short
    return TYPE_NAMES.get(name, str(name))


def types_of(values: Iterable[Value]) -> list[str]:
    """Every element type among tensors, sorted."""
    return sorted({value.type for value in values})


def precision_of(model: onnx.ModelProto, values: dict[str, Value]) -> str:
    """int8, fp16 or fp32: the lowest of any convolution or matrix product."""
    kinds = {node.op_type for node in model.graph.node}
    if "QuantizeLinear" in kinds or "DequantizeLinear" in kinds:
        return "int8"
    heavy = [n for n in model.graph.node if n.op_type in ("Conv", "ConvTranspose", "MatMul")]
    found = {values[n.output[0]].type.lower() for n in heavy if n.output[0] in values}
    return min(found, key=lambda name: int(re.sub(r"\D", "", name) or 99), default="unknown")


def memory(model: onnx.ModelProto, values: dict[str, Value], count: int = 10) -> Memory:
    """Activation memory for the batch of which `values` were inferred."""
    made = {n: size(values[n]) for node in model.graph.node for n in node.output if n}
    made |= {value.name: size(values[value.name]) for value in model.graph.input}
    largest = sorted(made, key=lambda name: made[name], reverse=True)[:count]
    return Memory([(n, values[n], made[n]) for n in largest], _peak(model, made))


def size(value: Value) -> int:
    """Bytes of a tensor whose shape is known."""
    assert value.shape is not None
    return math.prod(length or 0 for length in value.shape) * BYTES.get(value.type, 8)


def _peak(model: onnx.ModelProto, made: dict[str, int]) -> int:
    last = {name: step for step, node in enumerate(model.graph.node) for name in node.input}
    last |= {value.name: len(model.graph.node) for value in model.graph.output}
    alive = {value.name for value in model.graph.input}
    peak = 0
    for step, node in enumerate(model.graph.node):
        alive |= {name for name in node.output if name}
        peak = max(peak, sum(made[name] for name in alive))
        alive = {name for name in alive if last.get(name, -1) > step}
    return peak


def _value(tensor: onnx.TypeProto.Tensor) -> Value:
    shape = None
    if tensor.HasField("shape"):
        shape = tuple(d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim)
    return Value(type_name(tensor.elem_type), shape)
