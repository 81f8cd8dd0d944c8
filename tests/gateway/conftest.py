"""The contract of the repository, and requests that hold it."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import numpy as np
import pytest
from tritonclient.grpc.service_pb2 import ModelInferRequest

from pem_gateway.callable_models import Contract, load_contract
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
    ports = free_ports(3)
    names = ("http", "grpc", "metrics")
    served_at = [f"--{name}-port={port}" for name, port in zip(names, ports, strict=True)]
    command = [sys.executable, "-m", "pem_gateway", "serve", "--stub-network=20:5", *served_at]
    process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    http, grpc = (f"127.0.0.1:{port}" for port in ports[:2])
    try:
        printed = iter(process.stdout.readline, "")
        assert any(line.startswith("  stop ") for line in printed), "the gateway did not start"
        yield RunningGateway(http, grpc, process.pid)
    finally:
        process.terminate()
        process.communicate()


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
