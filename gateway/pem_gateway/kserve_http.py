"""KServe's HTTP protocol with Triton's binary tensors, from and to the gRPC protocol's messages.

A body is JSON; behind it, where the header Inference-Header-Content-Length tells how long the JSON
is, the content of the tensors that have `binary_data_size`. Source: the binary tensor data
extension of Triton's documentation (protocol/extension_binary_data.md).
"""

import json
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from grpc import StatusCode
from numpy.typing import NDArray
from tritonclient.grpc.service_pb2 import InferParameter, ModelInferRequest, ModelInferResponse

from .refusal import Refusal, bad_request, unsupported

DEEPEST = 16  # levels of brackets in the JSON of a request; a request needs 4, its data a few more
WINDOW = {"gzip": 31, "deflate": 15}  # zlib's words for the encodings of HTTP
DENSEST = 200  # unpacked bytes of a packed one; pixels of photographs and JSON have up to 20
DENSE_FREE = 16 << 20  # allowed whatever its density: tensors of one color
UNPACKED_AT_A_TIME = 1 << 20
NUMPY = {
    "BOOL": "?", "UINT8": "u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8", "INT8": "i1",
    "INT16": "<i2", "INT32": "<i4", "INT64": "<i8", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8",
}  # fmt: skip


@dataclass(frozen=True)
class Parsed:
    """A request, and which outputs its client wants as binary tensors."""

    message: ModelInferRequest
    binary_by_default: bool
    binary: Mapping[str, bool]

    def is_binary(self, output: str) -> bool:
        """Whether the output goes behind the JSON."""
        return self.binary.get(output, self.binary_by_default)


def parse_request(model: str, version: str, body: bytes, header_length: str | None) -> Parsed:
    """The message that a body spells. Raises Refusal with a sentence for a malformed one."""
    size = _header_size(header_length, len(body))
    question = _parse_json(body[:size])
    try:
        return _parsed(model, version, question, memoryview(body)[size:])
    except UnicodeEncodeError:
        raise bad_request(
            "names, ids and parameters must be Unicode text, got half of a surrogate pair"
        ) from None


def _parsed(model: str, version: str, question: dict[str, Any], tail: memoryview) -> Parsed:
    message = ModelInferRequest(model_name=model, model_version=version)
    message.id = _text(question.get("id", ""), "id")
    parameters = _object(question.get("parameters", {}), "parameters")
    by_default = bool(parameters.get("binary_data_output", False))
    for name, value in parameters.items():
        if name != "binary_data_output":
            _set_parameter(message.parameters[name], value, name)
    _add_inputs(message, question, tail)
    return Parsed(message, by_default, _add_outputs(message, question))


def format_response(response: ModelInferResponse, asked: Parsed) -> tuple[bytes, int | None]:
    """The body of an answer, and the length of its JSON where binary tensors follow it."""
    outputs, tail = [], []
    for output, raw in zip(response.outputs, response.raw_output_contents, strict=True):
        told: dict[str, Any] = {
            "name": output.name,
            "datatype": output.datatype,
            "shape": list(output.shape),
        }
        if asked.is_binary(output.name):
            told["parameters"] = {"binary_data_size": len(raw)}
            tail.append(raw)
        else:
            told["data"] = _values(output.datatype, raw)
        outputs.append(told)
    answer: dict[str, Any] = {"id": response.id} if response.id else {}
    answer |= {"model_name": response.model_name, "model_version": response.model_version}
    if response.parameters:
        answer["parameters"] = {
            name: getattr(value, value.WhichOneof("parameter_choice"))
            for name, value in response.parameters.items()
        }
    answer["outputs"] = outputs
    # As tritonserver does it: the bytes of an output that is no text go into the JSON as they are.
    text = json.dumps(answer, separators=(",", ":"), ensure_ascii=False)
    header = text.encode("utf-8", "surrogateescape")
    return b"".join([header, *tail]), len(header) if tail else None


def decompress(body: bytes, encoding: str, limit: int) -> bytes:
    """Undo a Content-Encoding, to at most `limit` bytes. Raises Refusal beyond it."""
    window = WINDOW.get(encoding.strip().lower())
    if window is None:
        raise unsupported(f"Content-Encoding must be gzip or deflate, got {encoding[:40]}")
    unpacker = zlib.decompressobj(window)
    # What is unpacked beyond this is nothing that anybody sends, and refused before it is there.
    most = min(limit, max(DENSE_FREE, len(body) * DENSEST))
    parts: list[bytes] = []
    size, rest = 0, body
    try:
        while not unpacker.eof and (rest or not parts):
            part = unpacker.decompress(rest, UNPACKED_AT_A_TIME)
            rest, size = unpacker.unconsumed_tail, size + len(part)
            parts.append(part)
            if size > most:
                raise _too_dense(most)
            if not part:
                break
    except zlib.error:
        raise bad_request(f"the body is not {encoding[:40]}, as Content-Encoding says") from None
    if not unpacker.eof:
        raise bad_request(f"the body ends before its {encoding[:40]} stream does; send all of it")
    return b"".join(parts)


def compress(body: bytes, accepted: str) -> tuple[bytes, str | None]:
    """The body packed as Accept-Encoding allows, and how; None for not at all."""
    named = [each.partition(";")[0].strip().lower() for each in accepted[:200].split(",")]
    encoding = next((each for each in named if each in WINDOW), None)
    if encoding is None:
        return body, None
    packer = zlib.compressobj(1, zlib.DEFLATED, WINDOW[encoding])
    return packer.compress(body) + packer.flush(), encoding


def _too_dense(most: int) -> Refusal:
    return Refusal(
        StatusCode.OUT_OF_RANGE,
        "too_large",
        f"this body must have at most {most:,} bytes when unpacked; send it as it is, or less",
    )


def _header_size(header_length: str | None, total: int) -> int:
    if header_length is None:
        return total
    if not header_length.isdecimal() or not 0 < int(header_length[:20]) <= total:
        raise bad_request(
            "Inference-Header-Content-Length must be the length of the JSON before the binary "
            f"tensors, 1 to {total}, got {header_length[:20]}"
        )
    return int(header_length)


def _parse_json(text: bytes) -> dict[str, Any]:
    try:
        return _object(json.loads(text), "the body")
    except (ValueError, RecursionError):
        # The commonest mistake: the image itself.
        raise bad_request(
            "the body must be a JSON object with inputs (and binary tensors behind it); to send an "
            "image file as it is, POST it to /v1/segment"
        ) from None


def _object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise bad_request(f"{what} must be a JSON object, got {_kind(value)}")
    return value


def _add_inputs(message: ModelInferRequest, question: dict[str, Any], tail: memoryview) -> None:
    position, raw = 0, []
    for told in _objects(question.get("inputs"), "inputs"):
        tensor = message.inputs.add()
        tensor.name = str(told.get("name", ""))
        tensor.datatype = str(told.get("datatype", ""))
        tensor.shape.extend(_shape(told.get("shape"), tensor.name))
        parameters = _object(told.get("parameters", {}), f"parameters of input '{tensor.name}'")
        size = parameters.pop("binary_data_size", None)
        for name, value in parameters.items():
            _set_parameter(tensor.parameters[name], value, name)
        if size is None:
            raw.append(_packed(told.get("data"), tensor.datatype, tensor.name))
            continue
        if not isinstance(size, int) or not 0 <= size <= len(tail) - position:
            raise bad_request(
                f"binary_data_size of input '{tensor.name[:100]}' must be within the "
                f"{len(tail) - position} bytes that are left behind the JSON, got {str(size)[:40]}"
            )
        raw.append(bytes(tail[position : position + size]))
        position += size
    if position != len(tail):
        raise bad_request(
            f"the inputs name {position} bytes of binary data, but {len(tail)} follow the JSON"
        )
    message.raw_input_contents.extend(raw)


def _add_outputs(message: ModelInferRequest, question: dict[str, Any]) -> dict[str, bool]:
    binary: dict[str, bool] = {}
    for told in _objects(question.get("outputs", []), "outputs"):
        output = message.outputs.add()
        output.name = str(told.get("name", ""))
        parameters = _object(told.get("parameters", {}), f"parameters of output '{output.name}'")
        for name, value in parameters.items():
            if name == "binary_data":
                binary[output.name] = bool(value)
            else:
                _set_parameter(output.parameters[name], value, name)
    return binary


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise bad_request(f"{what} must be a string, got {_kind(value)}")
    return value


def _objects(value: Any, what: str) -> list[dict[str, Any]]:
    if not isinstance(value, list):
        raise bad_request(f"{what} must be a list of tensors, got {_kind(value)}")
    return [_object(each, f"each of {what}") for each in value]


def _shape(value: Any, name: str) -> list[int]:
    is_shape = isinstance(value, list) and all(
        isinstance(each, int) and not isinstance(each, bool) and 0 <= each < 2**31 for each in value
    )
    if not is_shape:
        raise bad_request(
            f"the shape of input '{name[:100]}' must be a list of whole numbers, got "
            f"{str(value)[:60]}"
        )
    return list(value)


def _packed(data: Any, datatype: str, name: str) -> bytes:
    """The elements of a JSON list, nested or flat, as the protocol packs them."""
    elements = _flat(data, name)
    if datatype == "BYTES":
        if not all(isinstance(each, str) for each in elements):
            raise bad_request(f"data of input '{name[:100]}' must be strings, as it is BYTES")
        packed = [each.encode("utf-8", "surrogatepass") for each in elements]
        return b"".join(struct.pack("<I", len(each)) + each for each in packed)
    kind = NUMPY.get(datatype)
    if kind is None:
        raise bad_request(f"'{datatype[:20]}' of input '{name[:100]}' is no data type")
    try:
        return _array(elements, np.dtype(kind)).tobytes()
    except (ValueError, TypeError, OverflowError):
        raise bad_request(
            f"data of input '{name[:100]}' must be numbers that fit {datatype}"
        ) from None


def _array(elements: list[Any], kind: np.dtype[Any]) -> NDArray[Any]:
    """The numbers in their type. ValueError, TypeError or OverflowError where they do not fit."""
    if not elements:
        return np.empty(0, kind)
    array = np.array(elements, dtype=float if kind.kind == "f" else None)
    if array.ndim != 1 or array.dtype.kind not in {"f": "f", "b": "b"}.get(kind.kind, "iu"):
        raise ValueError
    if kind.kind in "iu":
        limits = np.iinfo(kind)
        if array.min() < limits.min or array.max() > limits.max:
            raise ValueError
    with np.errstate(over="ignore"):  # beyond FP32 is infinity, which the steps refuse
        return array.astype(kind)


def _flat(data: Any, name: str) -> list[Any]:
    if not isinstance(data, list):
        raise bad_request(
            f"the input '{name[:100]}' must have data, a list, or binary_data_size, got "
            f"{_kind(data)}"
        )
    level = data
    for _ in range(DEEPEST):
        if not any(isinstance(each, list) for each in level):
            return level
        if not all(isinstance(each, list) for each in level):
            break
        level = [inner for each in level for inner in each]
    raise bad_request(f"data of input '{name[:100]}' must be nested as its shape is")


def _set_parameter(parameter: InferParameter, value: Any, name: str) -> None:
    if isinstance(value, bool):
        parameter.bool_param = value
    elif isinstance(value, int) and -(2**63) <= value < 2**63:
        parameter.int64_param = value
    elif isinstance(value, str):
        parameter.string_param = value
    else:
        raise bad_request(
            f"the parameter '{name[:100]}' must be a whole number, a string or a boolean, got "
            f"{_kind(value)}"
        )


def _values(datatype: str, raw: bytes) -> list[Any]:
    if datatype == "BYTES":
        elements, position = [], 0
        while position < len(raw):
            (length,) = struct.unpack_from("<I", raw, position)
            elements.append(raw[position + 4 : position + 4 + length])
            position += 4 + length
        return [each.decode("utf-8", "surrogateescape") for each in elements]
    values: list[Any] = np.frombuffer(raw, NUMPY[datatype]).tolist()
    return values


def _kind(value: Any) -> str:
    """What JSON calls it."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean"}
    return "nothing" if value is None else names.get(type(value), "a number")
