from collections.abc import Callable

import pytest
from grpc import StatusCode
from tritonclient.grpc.service_pb2 import ModelInferRequest

from pem_gateway.callable_models import Contract
from pem_gateway.infer_request import check
from pem_gateway.refusal import Refusal

Change = Callable[[ModelInferRequest], object]


def test_a_good_request_is_work(contract: Contract, request_of) -> None:
    message = request_of(b"one", b"another", threshold=0.3)
    message.parameters["timeout"].int64_param = 250_000
    work = check(message, contract)
    assert (work.model, work.images, work.timeout_s) == ("fai-pem-m-ade", 2, 0.25)
    assert [bytes(each) for each in work.encoded] == [b"one", b"another"]


def test_typed_contents_are_work_too(contract: Contract) -> None:
    message = ModelInferRequest(model_name="fai-pem-m-ade")
    tensor = message.inputs.add(name="image", datatype="BYTES", shape=[1, 1])
    tensor.contents.bytes_contents.append(b"an image")
    assert [bytes(each) for each in check(message, contract).encoded] == [b"an image"]


def test_pixels_for_the_network_are_work_without_encoded_images(contract: Contract) -> None:
    message = ModelInferRequest(model_name="pem_network")
    message.inputs.add(name="image", datatype="UINT8", shape=[2, 640, 640, 3])
    message.raw_input_contents.append(bytes(2 * 640 * 640 * 3))
    work = check(message, contract)
    assert (work.images, work.encoded, work.timeout_s) == (2, (), None)


def _rename(name: str) -> Change:
    return lambda message: setattr(message, "model_name", name)


def _reshape(*shape: int) -> Change:
    def change(message: ModelInferRequest) -> None:
        message.inputs[0].shape[:] = shape

    return change


def _content(raw: bytes) -> Change:
    return lambda message: message.raw_input_contents.__setitem__(0, raw)


def _output(name: str, parameter: str | None = None) -> Change:
    def change(message: ModelInferRequest) -> None:
        output = message.outputs.add(name=name)
        if parameter:
            output.parameters[parameter].int64_param = 1

    return change


@pytest.mark.parametrize(
    ("change", "code", "names"),
    [
        (_rename("pem_render"), StatusCode.NOT_FOUND, "pem_render"),
        (_rename(""), StatusCode.NOT_FOUND, "fai-pem-m-ade"),
        (lambda m: setattr(m, "model_version", "2"), StatusCode.NOT_FOUND, "2"),
        (_output("nothing"), StatusCode.INVALID_ARGUMENT, "nothing"),
        (_output("detections", "classification"), StatusCode.UNIMPLEMENTED, "classification"),
        (
            _output("detections", "shared_memory_region"),
            StatusCode.UNIMPLEMENTED,
            "shared memory",
        ),
        (_reshape(1), StatusCode.INVALID_ARGUMENT, r"\[1\]"),
        (_reshape(9, 1), StatusCode.INVALID_ARGUMENT, "8"),
        (_reshape(0, 1), StatusCode.INVALID_ARGUMENT, r"\[0,1\]"),
        (_reshape(-1, 1), StatusCode.INVALID_ARGUMENT, "-1"),
        (_reshape(2, 1), StatusCode.INVALID_ARGUMENT, "2 string"),
        (_content(b"abc"), StatusCode.INVALID_ARGUMENT, "image"),
        (_content(b"\xff\xff\xff\xffabc"), StatusCode.INVALID_ARGUMENT, "image"),
        (_content(b"\xff\xff\x00\x00abc"), StatusCode.INVALID_ARGUMENT, "image"),
        (lambda m: m.inputs.add(name="pixels"), StatusCode.INVALID_ARGUMENT, "2 inputs"),
        (lambda m: setattr(m.inputs[0], "name", "x"), StatusCode.INVALID_ARGUMENT, "'x'"),
        (
            lambda m: setattr(m.inputs[0], "datatype", "FP32"),
            StatusCode.INVALID_ARGUMENT,
            "BYTES",
        ),
        (
            lambda m: setattr(m.parameters["sequence_id"], "int64_param", 1),
            StatusCode.INVALID_ARGUMENT,
            "sequence_id",
        ),
        (
            lambda m: setattr(m.parameters["timeout"], "int64_param", -1),
            StatusCode.INVALID_ARGUMENT,
            "timeout",
        ),
        (
            lambda m: setattr(m.parameters["timeout"], "bool_param", True),
            StatusCode.INVALID_ARGUMENT,
            "timeout",
        ),
    ],
)
def test_one_thing_wrong_is_refused_by_its_name(
    contract: Contract, request_of, change: Change, code: StatusCode, names: str
) -> None:
    message = request_of()
    change(message)
    with pytest.raises(Refusal, match=names) as caught:
        check(message, contract)
    assert caught.value.code == code


def test_inputs_of_different_numbers_of_images_are_refused(contract: Contract, request_of) -> None:
    message = request_of(b"one", b"two", threshold=0.5)
    message.inputs[1].shape[0] = 1
    message.raw_input_contents[1] = bytes(4)
    with pytest.raises(Refusal, match="threshold"):
        check(message, contract)


def test_an_input_twice_or_missing_is_refused(contract: Contract, request_of) -> None:
    twice = request_of()
    twice.inputs.append(twice.inputs[0])
    twice.raw_input_contents.append(twice.raw_input_contents[0])
    with pytest.raises(Refusal, match="twice"):
        check(twice, contract)
    with pytest.raises(Refusal, match="image"):
        check(ModelInferRequest(model_name="fai-pem-m-ade"), contract)
