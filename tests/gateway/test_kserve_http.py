import gzip
import json
import zlib

import numpy as np
import pytest
from tritonclient.grpc.service_pb2 import ModelInferResponse
from tritonclient.http import InferInput, InferRequestedOutput
from tritonclient.http._utils import _get_inference_request

from pem_gateway.kserve_http import decompress, format_response, parse_request
from pem_gateway.refusal import Refusal


def _asked(**changes: object) -> bytes:
    question = {
        "inputs": [{"name": "image", "datatype": "BYTES", "shape": [1, 1], "data": ["abc"]}]
    }
    return json.dumps(question | changes).encode()


@pytest.mark.parametrize("binary", [True, False])
def test_what_tritonclient_writes_is_read(binary: bool) -> None:
    image = InferInput("image", [1, 1], "BYTES")
    image.set_data_from_numpy(np.array([[b"an image"]], dtype=object), binary_data=binary)
    threshold = InferInput("threshold", [1, 1], "FP32")
    threshold.set_data_from_numpy(np.full((1, 1), 0.25, np.float32), binary_data=binary)
    outputs = [InferRequestedOutput("detections", binary_data=binary)]
    body, length = _get_inference_request(
        [image, threshold], "7", outputs, 0, False, False, 0, 5000, None
    )
    asked = parse_request("m", "", body, None if length is None else str(length))
    assert asked.message.id == "7"
    assert asked.message.raw_input_contents[0] == b"\x08\0\0\0an image"
    assert np.frombuffer(asked.message.raw_input_contents[1], np.float32) == [0.25]
    assert asked.message.parameters["timeout"].int64_param == 5000
    assert asked.is_binary("detections") is binary


def test_an_answer_goes_back_in_the_form_that_was_asked_for() -> None:
    response = ModelInferResponse(model_name="m", model_version="1", id="7")
    response.outputs.add(name="detections", datatype="BYTES", shape=[1, 1])
    response.outputs.add(name="scores", datatype="FP32", shape=[1, 2])
    response.raw_output_contents.extend(
        [b"\x02\0\0\0{}", np.array([0.5, 1.5], np.float32).tobytes()]
    )
    asked = parse_request(
        "m", "", _asked(outputs=[{"name": "scores", "parameters": {"binary_data": True}}]), None
    )
    body, length = format_response(response, asked)
    assert length is not None
    told = json.loads(body[:length])
    assert told["id"] == "7"
    assert told["outputs"][0]["data"] == ["{}"]
    assert told["outputs"][1]["parameters"] == {"binary_data_size": 8}
    assert np.frombuffer(body[length:], np.float32).tolist() == [0.5, 1.5]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xd8\xff\xe0 a JPEG",
        b"[" * 150_000 + b"]" * 150_000,
        b'{"a":' * 100_000,
        b"[]",
        b"1",
        b"{}",
        _asked(inputs={}),
        _asked(inputs=[1]),
        _asked(inputs=[{"name": "image"}]),
        _asked(inputs=[{"shape": [1, "1"]}]),
        _asked(inputs=[{"shape": [2**40]}]),
        _asked(inputs=[{"shape": [True]}]),
        _asked(inputs=[{"datatype": "BYTES", "shape": [1], "data": [1]}]),
        _asked(inputs=[{"datatype": "FP32", "shape": [1], "data": ["x"]}]),
        _asked(inputs=[{"datatype": "FP32", "shape": [1], "data": [[1], 2]}]),
        _asked(inputs=[{"datatype": "X", "shape": [1], "data": [1]}]),
        _asked(inputs=[{"datatype": "FP32", "shape": [1], "data": {"a": 1}}]),
        _asked(inputs=[{"shape": [1], "parameters": {"binary_data_size": 5}}]),
        _asked(inputs=[{"shape": [1], "parameters": {"binary_data_size": -5}}]),
        _asked(inputs=[{"shape": [1], "parameters": 5}]),
        _asked(parameters=[1]),
        _asked(parameters={"timeout": 1.5}),
        _asked(parameters={"timeout": 2**70}),
        _asked(outputs="detections"),
    ],
)
def test_a_malformed_body_is_a_bad_request(body: bytes) -> None:
    with pytest.raises(Refusal) as caught:
        parse_request("m", "", body, None)
    assert caught.value.http_status == 400


@pytest.mark.parametrize("length", ["", "-1", "0", "x", "9" * 5000, "1e3", "100000"])
def test_a_wrong_length_of_the_json_is_a_bad_request(length: str) -> None:
    with pytest.raises(Refusal) as caught:
        parse_request("m", "", _asked(), length)
    assert caught.value.http_status == 400


def test_packed_bodies_are_unpacked_up_to_a_limit() -> None:
    plain = b"abc" * 100
    assert decompress(gzip.compress(plain), "gzip", 300) == plain
    assert decompress(zlib.compress(plain), "deflate", 300) == plain
    for body, encoding in [
        (gzip.compress(bytes(10_000_000)), "gzip"),
        (gzip.compress(plain)[:-9], "gzip"),
        (b"not packed", "gzip"),
        (plain, "br"),
    ]:
        with pytest.raises(Refusal):
            decompress(body, encoding, 300)
