"""The contract of the repository, and requests that hold it."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from gateway_process import RunningGateway, running_gateway
from tritonclient.grpc.service_pb2 import ModelInferRequest

from pem_gateway.callable_models import Contract, load_contract
from pem_server.checkout import MODEL_REPOSITORY

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
def gateway() -> Iterator[RunningGateway]:
    """A gateway on loopback with its defaults, for every test that changes nothing in it."""
    with running_gateway() as gateway:
        yield gateway


@pytest.fixture(scope="session")
def gateway_url(gateway: RunningGateway) -> str:
    """The HTTP address of that gateway."""
    return gateway.http_url
