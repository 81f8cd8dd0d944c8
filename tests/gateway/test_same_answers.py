"""A gateway and a bare tritonserver are asked the same: what differs is listed here, and meant.

Each difference names what tritonserver 2.51 answers, what the gateway answers, and why.
"""

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from malformed_requests import ENSEMBLE, Http, grpc_cases, http_cases
from tritonclient.utils import InferenceServerException

MALFORMED = "a malformed request is the client's mistake, not the server's"
NO_EFFECT = "a request may say only what has an effect here"
NOT_SERVED = "only inference, metadata, configuration, statistics, readiness and health are served"
NOT_ITS_JSON = (
    "shape [-1, 1]", "shape ['1', 1]", "shape [1.5, 1]", "no shape", "no datatype", "no name",
    "inputs a number", "size negative", "size a string", "output without a name",
    "outputs a string", "timeout a string", "timeout negative", "priority negative", "id a number",
    "id null", "body null", "body list", "body object", "body open", "body image", "body not utf-8",
    "body no image", "gzip cut off",
)  # fmt: skip
HTTP_DIFFERENCES: dict[str, tuple[int, int, str]] = {
    **dict.fromkeys(NOT_ITS_JSON, (500, 400, MALFORMED)),
    "shape [0, 1]": (200, 400, "a request without an image has no answer"),
    "sequence_id": (200, 400, NO_EFFECT),
    "parameter x": (200, 400, NO_EFFECT),
    "parameter a double": (200, 400, NO_EFFECT),
}  # fmt: skip
GRPC_DIFFERENCES: dict[str, tuple[str, str, str]] = {
    **{
        f"garbage to {name}": ("INTERNAL", "INVALID_ARGUMENT", MALFORMED)
        for name in ("ModelInfer", "ServerMetadata", "ModelMetadata", "ModelConfig", "ModelReady",
                     "ModelStatistics", "ServerLive", "ServerReady")
    },
    **{
        f"{what} to {name}": (code, "UNIMPLEMENTED", NOT_SERVED)
        for what, code in (("garbage", "INTERNAL"), ("nothing", "OK"))
        for name in ("RepositoryIndex", "SystemSharedMemoryStatus", "CudaSharedMemoryStatus",
                     "TraceSetting", "LogSettings")
    },
    "shape [0, 1]": ("OK", "INVALID_ARGUMENT", "a request without an image has no answer"),
    "raw twice": ("OK", "INVALID_ARGUMENT", "tritonserver ignores the second tensor"),
    "parameter timeout int64_param -1": ("OK", "INVALID_ARGUMENT", "no time is negative"),
    **{
        f"parameter {name}": ("OK", "INVALID_ARGUMENT", NO_EFFECT)
        for name in ("sequence_id int64_param 7", "sequence_start bool_param True",
                     "x double_param 0.5", "x string_param y")
    },
    "shared memory": ("INVALID_ARGUMENT", "UNIMPLEMENTED", "its region is not looked for"),
}  # fmt: skip


@pytest.fixture(scope="module")
def image(root: Path) -> bytes:
    return (root / "docs" / "street.jpg").read_bytes()


def ask_http(address: str, request: Http) -> tuple[int, bytes]:
    method, path, headers, body = request
    connection = http.client.HTTPConnection(*address.split(":"), timeout=60)  # type: ignore[arg-type]
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def ask_grpc(channel: grpc.Channel, method: str, request: bytes) -> str:
    try:
        channel.unary_unary(method)(request, timeout=60)
    except grpc.RpcError as error:
        return str(error.code().name)
    return "OK"


def test_malformed_http_requests_get_the_same_status(gateway: Any, stub: Any, image: bytes) -> None:
    differences = {}
    for name, request in http_cases(image):
        bare, (status, body) = (
            ask_http(stub.server.http_url, request)[0],
            ask_http(gateway.http, request),
        )
        if bare != status:
            differences[name] = bare, status
        if status >= 400:
            assert json.loads(body)["error"], name
    assert differences == {name: (a, b) for name, (a, b, _) in HTTP_DIFFERENCES.items()}


def test_malformed_grpc_requests_get_the_same_code(gateway: Any, stub: Any, image: bytes) -> None:
    differences = {}
    with (
        grpc.insecure_channel(stub.server.grpc_url) as bare_channel,
        grpc.insecure_channel(gateway.grpc) as channel,
    ):
        for name, request in grpc_cases(image):
            bare, code = ask_grpc(bare_channel, *request), ask_grpc(channel, *request)
            if bare != code:
                differences[name] = bare, code
    assert differences == {name: (a, b) for name, (a, b, _) in GRPC_DIFFERENCES.items()}


# Sentences of tritonserver that clients may look for; the gateway's begin with them.
SENTENCES = {
    "unknown model": "Request for unknown model: 'nothing' is not found",
    "version 2": f"Request for unknown model: '{ENSEMBLE}' version 2 is not found",
    "input x": f"unexpected inference input 'x' for model '{ENSEMBLE}'",
    "output x": f"unexpected inference output 'x' for model '{ENSEMBLE}'",
    "shape [1]": f"unexpected shape for input 'image' for model '{ENSEMBLE}'. Expected [-1,1], got",
    "shape [9, 1]": f"inference request batch-size must be <= 8 for '{ENSEMBLE}'",
    "datatype FP32": f"inference input 'image' data-type is 'FP32', but model '{ENSEMBLE}' expects",
    "shape [2, 1]": "expected 2 string elements for inference input 'image'",
    "GET unknown": "Request for unknown model: 'nothing' is not found",
    "GET unknown/stats": "requested model 'nothing' is not available",
    "GET unknown/ready": "Model version not ready",
}


def test_sentences_begin_as_tritonservers_do(gateway: Any, stub: Any, image: bytes) -> None:
    cases = dict(http_cases(image))
    for name, begins in SENTENCES.items():
        for address in (stub.server.http_url, gateway.http):
            told = json.loads(ask_http(address, cases[name])[1])["error"]
            assert told.removeprefix("[request id: <id_unknown>] ").startswith(begins)


WHOLE = (
    "GET model", "GET unknown", "GET model/config", "GET unknown/config", "GET model/ready",
    "GET model/versions/1", "GET model/versions/1/config", "GET /v2", "GET /v2/health/live",
    "GET /v2/health/ready", "GET unknown/stats", "GET unknown/ready", "image that is none",
)  # fmt: skip


def test_what_is_asked_about_models_is_answered_alike(
    gateway: Any, stub: Any, image: bytes
) -> None:
    cases = dict(http_cases(image))
    for name in WHOLE:
        bare, answer = (ask_http(a, cases[name]) for a in (stub.server.http_url, gateway.http))
        assert bare[0] == answer[0], name
        assert _parsed(bare[1]) == _parsed(answer[1]), name
    for name in ("GET model/stats", "GET /v2/models/stats"):
        bare, answer = (ask_http(a, cases[name]) for a in (stub.server.http_url, gateway.http))
        assert _keys(json.loads(bare[1])) == _keys(json.loads(answer[1]))


def _parsed(body: bytes) -> Any:
    """Maps come in any order."""
    return json.loads(body) if body else None


def _keys(value: Any) -> Any:
    """A document without its numbers."""
    if isinstance(value, dict):
        return {name: _keys(each) for name, each in value.items() if name != "batch_stats"}
    return [_keys(each) for each in value] if isinstance(value, list) else type(value)


def clients(gateway: Any, stub: Any) -> Iterator[tuple[Any, Any, Any]]:
    """Triton's module of a wire, its client of the bare server, and that of the gateway."""
    for triton, addresses in (
        (triton_http, (stub.server.http_url, gateway.http)),
        (triton_grpc, (stub.server.grpc_url, gateway.grpc)),
    ):
        bare, fronted = (triton.InferenceServerClient(address) for address in addresses)
        try:
            yield triton, bare, fronted
        finally:
            bare.close()
            fronted.close()


CALLS = (
    ("is_server_live", ()), ("is_server_ready", ()), ("is_model_ready", (ENSEMBLE,)),
    ("is_model_ready", (ENSEMBLE, "1")), ("is_model_ready", (ENSEMBLE, "2")),
    ("is_model_ready", ("nothing",)), ("get_server_metadata", ()),
    ("get_model_metadata", (ENSEMBLE,)), ("get_model_metadata", (ENSEMBLE, "1")),
    ("get_model_metadata", ("pem_network",)), ("get_model_metadata", ("nothing",)),
    ("get_model_config", (ENSEMBLE,)), ("get_model_config", (ENSEMBLE, "1")),
    ("get_model_config", ("nothing",)), ("get_inference_statistics", ("nothing",)),
)  # fmt: skip


def call(client: Any, method: str, arguments: tuple[str, ...]) -> Any:
    try:
        return getattr(client, method)(*arguments)
    except InferenceServerException as error:
        return error.status(), error.message()


def test_calls_of_tritonclient_have_equal_results(gateway: Any, stub: Any) -> None:
    for _, bare, fronted in clients(gateway, stub):
        for method, arguments in CALLS:
            same = call(bare, method, arguments), call(fronted, method, arguments)
            assert same[0] == same[1], (method, arguments)
        for arguments in ((), (ENSEMBLE,), ("pem_network", "1")):
            assert fronted.get_inference_statistics(*arguments)


@pytest.mark.parametrize("request_packing", [None, "gzip", "deflate"])
@pytest.mark.parametrize("response_packing", [None, "gzip", "deflate"])
def test_inference_of_tritonclient_has_equal_results(
    gateway: Any, stub: Any, image: bytes, request_packing: str, response_packing: str
) -> None:
    for triton, bare, fronted in clients(gateway, stub):
        if triton is triton_http:
            packing = {
                "request_compression_algorithm": request_packing,
                "response_compression_algorithm": response_packing,
            }
        else:
            packing = {"compression_algorithm": request_packing}
        for options in ({}, {"binary": False}, {"outputs": None}):
            answers = [infer(triton, each, image, packing, **options) for each in (bare, fronted)]
            assert answers[0] == answers[1]


def infer(
    triton: Any,
    client: Any,
    image: bytes,
    packing: dict[str, Any],
    binary: bool = True,
    outputs: tuple[str, ...] | None = ("detections",),
) -> Any:
    """All that an answer says, without the times in it."""
    encoded = triton.InferInput("image", [1, 1], "BYTES")
    encoded.set_data_from_numpy(np.array([[image]], dtype=object))
    threshold = triton.InferInput("threshold", [1, 1], "FP32")
    has_binary = triton is triton_http
    told = {"binary_data": binary} if has_binary else {}
    threshold.set_data_from_numpy(np.full((1, 1), 0.25, np.float32), **told)
    answer = client.infer(
        ENSEMBLE,
        [encoded, threshold],
        "1",
        [triton.InferRequestedOutput(name, **told) for name in outputs] if outputs else None,
        request_id="seven",
        timeout=10_000_000,
        priority=1,
        **packing,
    )
    detections = json.loads(answer.as_numpy("detections").item())
    detections.pop("latency")
    segmentation = answer.as_numpy("segmentation")
    response = answer.get_response()
    ident = response["id"] if has_binary else response.id
    return detections, None if segmentation is None else segmentation.item(), ident
