"""Check a request for inference before anything is spent on it; no image is decoded here.

What passes holds only tensors and parameters that the contract names, in their types and shapes, so
that tritonserver sees nothing but requests that it is known to survive.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tritonclient.grpc.service_pb2 import InferParameter, ModelInferRequest

from .callable_models import ITEM_SIZE, Contract, Model, Tensor
from .refusal import Refusal, bad_request, not_found, unsupported

InputTensor = Any  # ModelInferRequest.InferInputTensor, which has no type for the checker

MICROSECONDS = 1e-6
SHARED_MEMORY = "shared_memory_"
# What a request may say besides its tensors. A priority has no meaning here, but clients send it.
PARAMETERS = {"timeout", "priority", "binary_data_output"}
ENCODED = "image"  # the input of the ensemble that holds encoded images


@dataclass(frozen=True)
class Work:
    """A request that passed every check."""

    message: ModelInferRequest
    model: str
    images: int
    encoded: tuple[memoryview, ...]  # the encoded images of the ensemble; none for pem_network
    timeout_s: float | None  # what the parameter `timeout` allows


def check(message: ModelInferRequest, contract: Contract) -> Work:
    """Return the work that a request asks for. Raises Refusal with a sentence for the client."""
    model = _model(message, contract)
    timeout_s = _timeout(message)
    _check_outputs(message, model)
    images, contents = _check_inputs(message, model)
    encoded: tuple[memoryview, ...] = ()
    if model.inputs[ENCODED].datatype == "BYTES":
        encoded = tuple(contents[ENCODED])
    return Work(message, model.name, images, encoded, timeout_s)


def _model(message: ModelInferRequest, contract: Contract) -> Model:
    model = contract.models.get(message.model_name)
    if model is None:
        names = " or ".join(contract.models)
        raise not_found(
            f"Request for unknown model: '{message.model_name[:100]}' is not found; call {names}"
        )
    version = message.model_version
    if version and not version.isdecimal():
        raise bad_request(
            f"invalid model version specified '{version[:20]}', version should be an integral "
            "value > 0; leave the version out"
        )
    if version not in ("", "1"):
        raise not_found(
            f"Request for unknown model: '{model.name}' version {version[:20]} is "
            "not found; leave the version out"
        )
    return model


def _timeout(message: ModelInferRequest) -> float | None:
    for name in message.parameters:
        if name not in PARAMETERS:
            raise bad_request(
                f"the parameter '{name[:100]}' is not supported; a request may have 'timeout', "
                "in microseconds"
            )
    if "timeout" not in message.parameters:
        return None
    microseconds = _number(message.parameters["timeout"])
    if microseconds is None or microseconds < 0:
        raise bad_request("the parameter 'timeout' must be a number of microseconds, 0 or more")
    return microseconds * MICROSECONDS or None  # 0 is no limit, as in tritonserver


def _number(parameter: InferParameter) -> int | None:
    kind = parameter.WhichOneof("parameter_choice")
    if kind in ("int64_param", "uint64_param"):
        return int(getattr(parameter, kind))
    return None


def _check_outputs(message: ModelInferRequest, model: Model) -> None:
    for output in message.outputs:
        if output.name not in model.outputs:
            raise bad_request(
                f"unexpected inference output '{output.name[:100]}' for model '{model.name}'; it "
                f"has {', '.join(model.outputs)}"
            )
        for name in output.parameters:
            if name == "binary_data":
                continue
            if name.startswith(SHARED_MEMORY):
                raise _no_shared_memory()
            raise unsupported(
                f"the parameter '{name[:100]}' of output '{output.name}' is not supported; leave "
                "it out"
            )


def _check_inputs(
    message: ModelInferRequest, model: Model
) -> tuple[int, dict[str, list[memoryview]]]:
    """The number of images, and the elements of each BYTES input."""
    raw = message.raw_input_contents
    if raw and len(raw) != len(message.inputs):
        raise bad_request(
            f"raw_input_contents must have one entry for each of the {len(message.inputs)} inputs, "
            f"got {len(raw)}"
        )
    contents: dict[str, list[memoryview]] = {}
    batches: dict[str, int] = {}
    for index, tensor in enumerate(message.inputs):
        known = _known(tensor, model, batches)
        batches[tensor.name] = _batch(tensor, known, model)
        elements = _elements(tensor, known, raw[index] if raw else None)
        if elements is not None:
            contents[tensor.name] = elements
    missing = [each.name for each in model.inputs.values() if not each.optional]
    missing = [name for name in missing if name not in batches]
    if missing:
        raise bad_request(f"model '{model.name}' needs the input '{missing[0]}'; add it")
    if len(set(batches.values())) > 1:
        raise bad_request(
            "all inputs must be of the same number of images, got "
            + ", ".join(f"{count} of '{name}'" for name, count in batches.items())
        )
    return next(iter(batches.values())), contents


def _known(tensor: InputTensor, model: Model, seen: dict[str, int]) -> Tensor:
    known = model.inputs.get(tensor.name)
    if known is None:
        raise bad_request(
            f"unexpected inference input '{tensor.name[:100]}' for model '{model.name}'; it takes "
            f"{', '.join(model.inputs)}"
        )
    if tensor.name in seen:
        raise bad_request(f"the input '{tensor.name}' came twice; send it once")
    for name in tensor.parameters:
        if name.startswith(SHARED_MEMORY):
            raise _no_shared_memory()
        if name != "binary_data_size":
            raise unsupported(
                f"the parameter '{name[:100]}' of input '{tensor.name}' is not supported; leave "
                "it out"
            )
    if tensor.datatype != known.datatype:
        raise bad_request(
            f"inference input '{tensor.name}' data-type is '{tensor.datatype[:20]}', but model "
            f"'{model.name}' expects '{known.datatype}'"
        )
    return known


def _batch(tensor: InputTensor, known: Tensor, model: Model) -> int:
    shape, dims = tuple(tensor.shape), known.dims
    # In tritonserver's words, because users of its clients know them.
    if len(shape) != len(dims) + 1 or shape[1:] != dims or shape[0] < 1:
        wanted, got = ",".join(map(str, dims)), ",".join(map(str, shape[:8]))
        raise bad_request(
            f"unexpected shape for input '{tensor.name}' for model '{model.name}'. Expected "
            f"[-1,{wanted}], got [{got}]; the first number is that of images, 1 to "
            f"{model.max_batch}"
        )
    if shape[0] > model.max_batch:
        raise bad_request(
            f"inference request batch-size must be <= {model.max_batch} for '{model.name}', got "
            f"{shape[0]}; send fewer images at a time"
        )
    return int(shape[0])


def _elements(tensor: InputTensor, known: Tensor, raw: bytes | None) -> list[memoryview] | None:
    """The elements of a BYTES tensor; None for any other, whose size is checked."""
    count = _product(tensor.shape)
    if known.datatype == "BYTES":
        elements = _split(raw) if raw is not None else _typed_bytes(tensor)
        if elements is None or len(elements) != count:
            got = "other data" if elements is None else f"{len(elements)}"
            raise bad_request(
                f"expected {count} string elements for inference input '{tensor.name}', each after "
                f"its length in 4 bytes, got {got}"
            )
        return elements
    if raw is None:
        _check_typed(tensor, known, count)
    elif len(raw) != count * ITEM_SIZE[known.datatype]:
        raise bad_request(
            f"the input '{tensor.name}' must hold {count * ITEM_SIZE[known.datatype]} bytes for "
            f"its shape, got {len(raw)}"
        )
    return None


def _split(raw: bytes) -> list[memoryview] | None:
    """BYTES elements as the protocol packs them; None where the lengths do not add up."""
    view, position, elements = memoryview(raw), 0, []
    while position < len(view):
        if position + 4 > len(view):
            return None
        (length,) = struct.unpack_from("<I", view, position)
        position += 4
        if position + length > len(view):
            return None
        elements.append(view[position : position + length])
        position += length
    return elements


def _typed_bytes(tensor: InputTensor) -> list[memoryview]:
    return [memoryview(each) for each in tensor.contents.bytes_contents]


def _check_typed(tensor: InputTensor, known: Tensor, count: int) -> None:
    field = {"FP32": "fp32_contents", "UINT8": "uint_contents"}.get(known.datatype)
    got = len(getattr(tensor.contents, field)) if field else 0
    if got != count:
        raise bad_request(
            f"the input '{tensor.name}' must hold {count} {known.datatype} elements, got {got}"
        )


def _no_shared_memory() -> Refusal:
    return unsupported("shared memory is not supported; send the tensor's content with the request")


def _product(shape: Sequence[int]) -> int:
    product = 1
    for length in shape:
        product *= length
    return product
