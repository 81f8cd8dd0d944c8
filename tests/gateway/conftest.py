"""The contract of the repository, and requests that hold it."""

import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator

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


@pytest.fixture(scope="session")
def gateway_url() -> Iterator[str]:
    """The HTTP address of a gateway that runs before a stub network."""
    names = ("http", "grpc", "metrics")
    ports = free_ports(3)
    options = [f"--{name}-port={port}" for name, port in zip(names, ports, strict=True)]
    command = [sys.executable, "-m", "pem_gateway", "serve", "--stub-network=20:5", *options]
    process = subprocess.Popen(command)
    url = f"http://127.0.0.1:{ports[0]}"
    try:
        assert poll(lambda: process.poll() is not None or _is_ready(url))
        assert process.poll() is None, "the gateway did not start"
        yield url
    finally:
        process.terminate()
        process.wait()


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/ready") as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
