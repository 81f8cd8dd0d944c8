import gzip
import json
import tracemalloc
import zlib

import numpy as np
import pytest
from tritonclient.grpc.service_pb2 import ModelInferResponse
from tritonclient.http import InferInput, InferRequestedOutput
from tritonclient.http._utils import _get_inference_request

from pem_gateway.kserve_http import compress, decompress, format_response, parse_request
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


@pytest.mark.parametrize(
    ("datatype", "data", "packed"),
    [
        ("BOOL", [True, False], b"\x01\0"),
        ("UINT8", [[0], [255]], b"\0\xff"),
        ("INT16", [-2], b"\xfe\xff"),
        ("UINT64", [2**64 - 1], b"\xff" * 8),
        ("FP32", [1, 0.5], b"\0\0\x80\x3f\0\0\0\x3f"),
        ("FP32", [], b""),
        ("INT32", [], b""),
        ("BYTES", [], b""),
    ],
)
def test_numbers_of_json_are_packed(datatype: str, data: list[object], packed: bytes) -> None:
    body = _asked(inputs=[{"datatype": datatype, "shape": [1], "data": data}])
    assert parse_request("m", "", body, None).message.raw_input_contents[0] == packed


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
        _asked(inputs=[{"datatype": "BOOL", "shape": [1], "data": [0.5]}]),
        _asked(inputs=[{"datatype": "UINT8", "shape": [1], "data": [256]}]),
        _asked(inputs=[{"datatype": "UINT8", "shape": [1], "data": [-1]}]),
        _asked(inputs=[{"datatype": "INT64", "shape": [1], "data": [2**63]}]),
        _asked(inputs=[{"datatype": "INT8", "shape": [1], "data": [0.5]}]),
        _asked(id=7),
        _asked(id=None),
        # What the fuzzer found (tests/fuzz): halves of surrogate pairs.
        _asked(id="\ud800"),
        _asked(inputs=[{"name": "im\ud800age", "shape": [1]}]),
        _asked(inputs=[{"name": "image", "shape": "\ud800"}]),
        _asked(parameters={"\udfff": 1}),
    ],
)
def test_a_malformed_body_is_a_bad_request(body: bytes) -> None:
    with pytest.raises(Refusal) as caught:
        parse_request("m", "", body, None)
    assert caught.value.http_status == 400
    assert caught.value.sentence.encode()


@pytest.mark.parametrize("length", ["", "-1", "0", "x", "9" * 5000, "1e3", "100000"])
def test_a_wrong_length_of_the_json_is_a_bad_request(length: str) -> None:
    with pytest.raises(Refusal) as caught:
        parse_request("m", "", _asked(), length)
    assert caught.value.http_status == 400


def test_what_cannot_be_text_goes_into_json_as_it_is() -> None:
    """As tritonserver does it, for whoever names no outputs."""
    response = ModelInferResponse(model_name="m", model_version="1")
    response.parameters["sequence_id"].int64_param = 0
    response.outputs.add(name="segmentation", datatype="BYTES", shape=[1, 1])
    response.raw_output_contents.append(b"\x04\0\0\0\x89PN\n")
    body, length = format_response(response, parse_request("m", "", _asked(), None))
    assert length is None
    assert b'"data":["\x89PN\\n"]' in body
    assert b'"parameters":{"sequence_id":0}' in body


@pytest.mark.parametrize("accepted", ["gzip", "deflate", "br, gzip;q=0.5", "identity", ""])
def test_an_answer_is_packed_as_its_client_accepts(accepted: str) -> None:
    packed, encoding = compress(b"answer" * 100, accepted)
    assert encoding == next((each for each in ("gzip", "deflate") if each in accepted), None)
    plain = decompress(packed, encoding, 1000) if encoding else packed
    assert plain == b"answer" * 100


def test_a_bomb_is_refused_long_before_it_is_unpacked() -> None:
    bomb = gzip.compress(bytes(100_000_000))
    tracemalloc.start()
    with pytest.raises(Refusal) as caught:
        decompress(bomb, "gzip", 150_000_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert caught.value.http_status == 413
    assert peak < 30_000_000


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
