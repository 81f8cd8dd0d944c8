"""Bad requests in random ways at a whole server, with good ones between: it answers and goes on.

PEM_FUZZ_INPUTS sets how many, PEM_FUZZ_SEED which.
"""

import collections
import http.client
import os
import random
import re
import socket
from typing import Any

import grpc
import psutil
import pytest
from bad_inputs import MODEL, bad_requests, body, drawn, encoded
from gateway_process import running_gateway

from pem_server.stub_network import Cost

COUNT = int(os.environ.get("PEM_FUZZ_INPUTS", "2000"))
SEED = int(os.environ.get("PEM_FUZZ_SEED", "1"))
GOOD_EVERY = 25
INFER = "/inference.GRPCInferenceService/ModelInfer"
# Nothing that a client sends is a failure of the server.
EXPECTED = {
    "http": {"200", "400", "404", "413", "501", "504"},
    "plain": {"200", "400", "413"},
    "grpc": {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "UNIMPLEMENTED", "DEADLINE_EXCEEDED"},
    "socket": {"200", "400", "404", "405", "408", "413", "431", "505", "closed"},
}
# What no answer may tell: folders, files of programs, tracebacks, addresses.
INSIDES = re.compile(
    rb"Traceback|\.py\b|site-packages|/tmp/|/usr/|/root/|/dev/shm|numpy|0x[0-9a-f]{6}"
)


class Asked:
    """Sends requests to one gateway, each on its wire."""

    def __init__(self, gateway: Any) -> None:
        self._gateway = gateway
        self._channel = grpc.insecure_channel(gateway.grpc)

    def __call__(self, wire: str, content: bytes, header: int) -> tuple[str, bytes]:
        if wire == "grpc":
            return self._call(content)
        if wire == "socket":
            return self._send(content)
        return self._post(wire, content, header)

    def _call(self, content: bytes) -> tuple[str, bytes]:
        try:
            return "OK", bytes(self._channel.unary_unary(INFER)(content, timeout=60))
        except grpc.RpcError as error:
            return error.code().name, (error.details() or "").encode()

    def _post(self, wire: str, content: bytes, header: int) -> tuple[str, bytes]:
        connection = http.client.HTTPConnection(self._gateway.http, timeout=60)
        path = "/v1/segment" if wire == "plain" else f"/v2/models/{MODEL}/infer"
        headers = {} if wire == "plain" else {"Inference-Header-Content-Length": str(header)}
        try:
            connection.request("POST", path, content, headers)
            answer = connection.getresponse()
            return str(answer.status), answer.read()
        finally:
            connection.close()

    def _send(self, content: bytes) -> tuple[str, bytes]:
        host, port = self._gateway.http.split(":")
        with socket.create_connection((host, int(port)), timeout=60) as sock:
            try:
                sock.sendall(content)
                sock.shutdown(socket.SHUT_WR)
                answer = sock.recv(65536)
            except ConnectionError:
                answer = b""
        return (
            (answer[9:12].decode(), answer) if answer.startswith(b"HTTP/1.1 ") else ("closed", b"")
        )


def processes(pid: int) -> set[int]:
    """tritonserver and its steps: another one means that one has died."""
    children = psutil.Process(pid).children(recursive=True)
    return {each.pid for each in children if "overlay" not in " ".join(each.cmdline())}


@pytest.mark.slow
def test_bad_requests_are_refused_and_good_ones_answered() -> None:
    image = encoded(drawn(), "JPEG")
    head, raw = body(image, "detections")
    answers: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    with running_gateway(cost=Cost(0, 0.1)) as gateway:
        ask = Asked(gateway)
        before = processes(gateway.pid)
        requests = bad_requests(random.Random(SEED), image)
        for number in range(COUNT):
            wire, content, header = next(requests)
            status, answer = ask(wire, content, header)
            answers[wire][status] += 1
            assert status in EXPECTED[wire], (number, wire, status, answer[:300])
            if status not in ("200", "OK"):
                assert not INSIDES.search(answer), (number, answer[:300])
            if number % GOOD_EVERY == 0:
                assert ask("http", head + raw, len(head))[0] == "200", number
        assert processes(gateway.pid) == before
    print({wire: dict(counts) for wire, counts in answers.items()})
