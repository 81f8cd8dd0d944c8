"""The contract of the repository, and requests that hold it."""

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import numpy as np
import pytest
from polling import poll
from tritonclient.grpc.service_pb2 import ModelInferRequest

from pem_gateway.contract import Contract, load_contract
from pem_server.checkout import MODEL_REPOSITORY
from pem_server.ports import free_ports

ENSEMBLE = "fai-pem-m-ade"


@pytest.fixture(scope="session")
def contract() -> Contract:
    return load_contract(MODEL_REPOSITORY)


def packed(*elements: bytes) -> bytes:
    """BYTES elements as the protocol packs them."""
    return b"".join(len(each).to_bytes(4, "little") + each for each in elements)


@pytest.fixture
def request_of() -> Callable[..., ModelInferRequest]:
    """A good request of as many images as there are bytes objects."""

    def make(*images: bytes, threshold: float | None = None) -> ModelInferRequest:
        images = images or (b"an image",)
        message = ModelInferRequest(model_name=ENSEMBLE)
        message.inputs.add(name="image", datatype="BYTES", shape=[len(images), 1])
        message.raw_input_contents.append(packed(*images))
        if threshold is not None:
            message.inputs.add(name="threshold", datatype="FP32", shape=[len(images), 1])
            message.raw_input_contents.append(np.full(len(images), threshold, np.float32).tobytes())
        return message

    return make


# The gateway as its launcher runs it, with one recorded answer for every image.
PROGRAM = """
import argparse, asyncio
from pathlib import Path
from pem_gateway.gateway import Settings, run
from pem_gateway.guard_settings import add_guard_options, guard_from_options
from pem_server.stub_network import parse_cost, stub_repository

parser = argparse.ArgumentParser()
parser.add_argument("repository", type=Path)
parser.add_argument("ports", type=int, nargs=3)
parser.add_argument("--cost", type=parse_cost, default="20:5")
add_guard_options(parser)
given = parser.parse_args()
http, grpc, metrics = given.ports
guard = guard_from_options(parser, given)
with stub_repository(given.repository, given.cost) as repository:
    asyncio.run(
        run(
            Settings(
                repository=repository, bind=given.bind, http_port=http, grpc_port=grpc,
                metrics_port=metrics, guard=guard,
            )
        )
    )
"""


@dataclass(frozen=True)
class RunningGateway:
    """Host and port of each wire."""

    http: str
    grpc: str
    pid: int

    @property
    def url(self) -> str:
        return f"http://{self.http}"


@contextmanager
def _running(*options: str) -> Iterator[RunningGateway]:
    """A gateway that runs before a stub network until the block ends."""
    ports = [str(port) for port in free_ports(3)]
    command = [sys.executable, "-c", PROGRAM, str(MODEL_REPOSITORY), *ports, *options]
    process = subprocess.Popen(command)
    http, grpc = (f"127.0.0.1:{port}" for port in ports[:2])
    try:
        assert poll(lambda: process.poll() is not None or _accepts(http))
        assert process.poll() is None, "the gateway did not start"
        yield RunningGateway(http, grpc, process.pid)
    finally:
        process.terminate()
        process.wait()


def _accepts(address: str) -> bool:
    """Whether it listens, which it does once tritonserver is ready."""
    host, port = address.split(":")
    try:
        with socket.create_connection((host, int(port))):
            return True
    except OSError:
        return False


@pytest.fixture(scope="session")
def running_gateway() -> Callable[..., AbstractContextManager[RunningGateway]]:
    """Start a gateway with options of its own for a block."""
    return _running


@pytest.fixture(scope="session")
def gateway() -> Iterator[RunningGateway]:
    """A gateway on loopback with its defaults, for every test that changes nothing in it."""
    with _running() as gateway:
        yield gateway


@pytest.fixture(scope="session")
def gateway_url(gateway: RunningGateway) -> str:
    """The HTTP address of that gateway."""
    return gateway.url
