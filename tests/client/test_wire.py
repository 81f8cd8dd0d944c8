"""Real gRPC and HTTP: tritonclient to a server in this process that speaks Triton's protocols.

Triton's own responses are tested in tests/triton; here are failures that a good server never shows.
"""

import asyncio
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import deserialize_bytes_tensor, serialize_byte_tensor

import pem_client
from pem_client import AsyncClient, Client, DeadlineExceeded, Detections

HTTP_STATUS = {"INVALID_ARGUMENT": 400, "NOT_FOUND": 404, "INTERNAL": 500, "UNAVAILABLE": 503}


@dataclass
class Behavior:
    """Where the server is, what it does, and the requests it got."""

    answer: bytes
    url: str = ""
    refuse: tuple[str, str] | None = None  # gRPC status, message
    held: threading.Event | None = None  # answers once this is set
    raw_body: bytes | None = None  # HTTP only: the whole response
    drips: bool = False  # HTTP only: sends one byte at a time
    requests: list[dict[str, Any]] = field(default_factory=list)
    requested: threading.Event = field(default_factory=threading.Event)

    def receive(self, tensors: dict[str, bytes], **received: Any) -> None:
        """Keep a request, and wait while the server is held."""
        received["image"] = deserialize_bytes_tensor(tensors["image"])[0]
        received["threshold"] = np.frombuffer(tensors["threshold"], np.float32)[0]
        self.requests.append(received)
        self.requested.set()
        if self.held:
            self.held.wait()


class GrpcHandler(service_pb2_grpc.GRPCInferenceServiceServicer):
    def __init__(self, behavior: Behavior) -> None:
        self.behavior = behavior

    def ModelReady(self, request: Any, context: Any) -> Any:
        return service_pb2.ModelReadyResponse(ready=request.name == "fai-pem-m-ade")

    def ModelInfer(self, request: Any, context: Any) -> Any:
        names = [tensor.name for tensor in request.inputs]
        tensors = dict(zip(names, request.raw_input_contents, strict=True))
        outputs = [output.name for output in request.outputs]
        timeout, remaining = request.parameters["timeout"].int64_param, context.time_remaining()
        received = {"model": request.model_name, "outputs": outputs, "timeout": timeout}
        self.behavior.receive(tensors, **received, remaining_s=remaining)
        if self.behavior.refuse:
            status, message = self.behavior.refuse
            context.abort(grpc.StatusCode[status], message)
        response = service_pb2.ModelInferResponse()
        response.outputs.add(name=outputs[0], datatype="BYTES", shape=[1, 1])
        response.raw_output_contents.append(serialized(self.behavior.answer))
        return response


def serialized(answer: bytes) -> bytes:
    raw: bytes = serialize_byte_tensor(np.array([answer], dtype=object)).item()
    return raw


class HttpHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    behavior: Behavior

    def do_GET(self) -> None:
        self.reply(200 if self.path == "/v2/models/fai-pem-m-ade/ready" else 400, b"")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        start = int(self.headers["Inference-Header-Content-Length"])
        header = json.loads(body[:start])
        outputs, tensors = [output["name"] for output in header["outputs"]], {}
        for tensor in header["inputs"]:
            end = start + tensor["parameters"]["binary_data_size"]
            tensors[tensor["name"]], start = body[start:end], end
        model, timeout = self.path.split("/")[3], header["parameters"]["timeout"]
        self.behavior.receive(tensors, model=model, timeout=timeout, outputs=outputs)
        with suppress(ConnectionError):  # the client has stopped waiting
            self.answer(outputs[0])

    def answer(self, output: str) -> None:
        if self.behavior.refuse:
            status, message = self.behavior.refuse
            self.reply(HTTP_STATUS[status], json.dumps({"error": message}).encode())
        elif self.behavior.raw_body is not None:
            self.reply(200, self.behavior.raw_body)
        else:
            raw = serialized(self.behavior.answer)
            tensor = {"name": output, "datatype": "BYTES", "shape": [1, 1]}
            tensor["parameters"] = {"binary_data_size": len(raw)}
            header = json.dumps({"outputs": [tensor]}).encode()
            self.reply(200, header + raw, {"Inference-Header-Content-Length": str(len(header))})

    def reply(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        for byte in body if self.behavior.drips else ():
            self.wfile.write(bytes([byte]))
            time.sleep(0.05)
        self.wfile.write(b"" if self.behavior.drips else body)

    def log_message(self, format: str, *arguments: Any) -> None:
        pass


@pytest.fixture
def grpc_server(street: Detections) -> Iterator[Behavior]:
    behavior = Behavior(street.to_json().encode())
    with ThreadPoolExecutor(4) as pool:
        # Without the first option two tests could share a port; the others allow large images.
        sizes = [(f"grpc.max_{direction}_message_length", -1) for direction in ("receive", "send")]
        options = [("grpc.so_reuseport", 0), *sizes]
        server = grpc.server(pool, options=options)
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(GrpcHandler(behavior), server)
        behavior.url = f"grpc://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        yield behavior
        server.stop(grace=None).wait()


@pytest.fixture
def http_server(street: Detections) -> Iterator[Behavior]:
    behavior = Behavior(street.to_json().encode())
    handler = type("Handler", (HttpHandler,), {"behavior": behavior})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}).start()
        behavior.url = f"http://127.0.0.1:{server.server_port}"
        yield behavior
        server.shutdown()


@pytest.fixture(params=["grpc", "http"])
def server(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(f"{request.param}_server")


def test_an_image_goes_out_unchanged_and_its_detections_come_back(server, street):
    image = b"bytes of any kind \0\xff\0"
    with Client(server.url, timeout_s=20) as client:
        assert client.infer(image, threshold=0.25) == street
    (request,) = server.requests
    assert request.pop("remaining_s", 20) == pytest.approx(20, abs=5)
    sent = {"image": image, "threshold": 0.25, "timeout": 20_000_000}  # microseconds
    assert request == {"model": "fai-pem-m-ade", "outputs": ["detections"], **sent}


def test_requests_and_answers_over_four_megabytes_pass(server):
    long_name = "x" * 5_000_000
    server.answer = json.dumps({"detections": [], "latency": {long_name: 1.0}}).encode()
    with Client(server.url) as client:
        assert list(client.infer(bytes(5_000_000)).latency) == [long_name]
    assert len(server.requests[0]["image"]) == 5_000_000


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        ("INVALID_ARGUMENT", "image must be an image", "InvalidRequest"),
        ("NOT_FOUND", "Request for unknown model: 'x' is not found", "ServerUnavailable"),
        ("INTERNAL", "it broke", "ServerError"),
        ("UNAVAILABLE", "Exceeds maximum queue size", "Overloaded"),
        ("UNAVAILABLE", "the answer would take 5.2 s, and at most 5.0 s are allowed", "Overloaded"),
    ],
)
def test_a_refusal_is_its_error_and_the_client_stays_usable(server, status, message, kind, street):
    with Client(server.url) as client:
        server.refuse = (status, f"in ensemble 'fai-pem-m-ade', {message}")
        with pytest.raises(getattr(pem_client, kind), match=message):
            client.infer(b"")
        server.refuse = None
        assert client.infer(b"") == street


def test_a_late_response_is_an_error_and_the_client_stays_usable(server, street):
    server.held = threading.Event()
    with Client(server.url, timeout_s=0.5) as client:
        with pytest.raises(DeadlineExceeded, match=r"0\.5 s"):
            client.infer(b"")
        server.held.set()
        assert client.infer(b"") == street


def test_a_model_is_checked_before_it_is_used_and_closed_with_its_client(server, street):
    with Client(server.url) as client:
        model = client.get_remote_model("fai-pem-m-ade")
        assert model.infer(b"") == street
        with pytest.raises(pem_client.ServerUnavailable, match="'nope'"):
            client.get_remote_model("nope")
    client.close()
    for closed in (client, model):
        with pytest.raises(pem_client.PemError, match="closed"):
            closed.infer(b"")


@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b'{"outputs": [{"name": "detections"}]}'])
def test_a_response_that_is_not_tritons_is_the_servers_error(http_server, body):
    http_server.raw_body = body
    with Client(http_server.url) as client, pytest.raises(pem_client.ServerError):
        client.infer(b"")


def test_an_http_response_that_drips_in_times_out(http_server):
    http_server.raw_body, http_server.drips = b"{" * 40, True
    with Client(http_server.url, timeout_s=0.5) as client, pytest.raises(DeadlineExceeded):
        client.infer(b"")


def test_the_port_of_the_other_protocol_is_unavailable(grpc_server, http_server):
    for scheme, other in (("http", grpc_server), ("grpc", http_server)):
        url = f"{scheme}://{other.url.partition('://')[2]}"
        with Client(url, timeout_s=20) as client, pytest.raises(pem_client.ServerUnavailable):
            client.infer(b"")


def test_ctrl_c_during_a_call_is_quiet(server, tmp_path):
    image = tmp_path / "image.jpg"
    image.write_bytes(b"jpeg")
    server.held = threading.Event()
    command = [sys.executable, "-m", "pem_client", "segment", str(image), "--url", server.url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert server.requested.wait(timeout=30)
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=30) == (b"", b"")
    server.held.set()
    assert process.returncode == 130


def test_async_calls_over_grpc_fail_and_succeed_one_by_one(grpc_server, street):
    async def infer_all() -> None:
        async with AsyncClient(grpc_server.url, timeout_s=20) as client:
            assert await asyncio.gather(*(client.infer(b"") for _ in range(3))) == [street] * 3
            grpc_server.refuse = ("INVALID_ARGUMENT", "image must be an image")
            with pytest.raises(pem_client.InvalidRequest):
                await client.infer(b"")
        grpc_server.held = threading.Event()
        async with AsyncClient(grpc_server.url, timeout_s=0.5) as client:
            with pytest.raises(DeadlineExceeded):
                await client.infer(b"")
        grpc_server.held.set()

    asyncio.run(infer_all())
    assert grpc_server.requests[0]["timeout"] == 20_000_000
