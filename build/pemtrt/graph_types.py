"""The element types of an ONNX graph: FP32, FP16, INT64 and so on, as TensorRT names them."""

import re
from pathlib import Path

import onnx
from onnx import shape_inference

from pemtrt.manifest import EngineError

TYPE_NAMES = {"FLOAT": "FP32", "FLOAT16": "FP16", "BFLOAT16": "BF16"}


def load(path: Path) -> onnx.ModelProto:
    """The model in a file. EngineError when there is none."""
    if not path.is_file():
        raise EngineError(f"the ONNX graph {path} is missing; make it with ./run export")
    try:
        return onnx.load(path)
    except Exception as error:  # protobuf's own class of error depends on its version
        raise EngineError(f"{path} is not a readable ONNX file: {error}") from error


def element_types(model: onnx.ModelProto) -> dict[str, str]:
    """The type of every tensor by its name, as far as ONNX can infer it."""
    try:
        graph = shape_inference.infer_shapes(model, data_prop=True).graph
    except (shape_inference.InferenceError, onnx.checker.ValidationError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise EngineError(f"the graph's types cannot be inferred: {reason}") from error
    types = {tensor.name: type_name(tensor.data_type) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        types[value.name] = type_name(value.type.tensor_type.elem_type)
    return types


def type_name(number: int) -> str:
    """TensorRT's name of an element type of ONNX."""
    name = onnx.TensorProto.DataType.Name(number)
    for prefix, short in (("FLOAT8", "FP8"), ("FLOAT4", "FP4")):
        if name.startswith(prefix):
            return short
    return TYPE_NAMES.get(name, str(name))


def precision_of(model: onnx.ModelProto, types: dict[str, str]) -> str:
    """int8, fp16 or fp32: the lowest of any convolution or matrix product."""
    kinds = {node.op_type for node in model.graph.node}
    if "QuantizeLinear" in kinds or "DequantizeLinear" in kinds:
        return "int8"
    heavy = [n for n in model.graph.node if n.op_type in ("Conv", "ConvTranspose", "MatMul")]
    found = {types[n.output[0]].lower() for n in heavy if n.output[0] in types}
    return min(found, key=lambda name: int(re.sub(r"\D", "", name) or 99), default="unknown")
