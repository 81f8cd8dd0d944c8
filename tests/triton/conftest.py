"""Clients of the real server, and the image that they send."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from pem_client import Client
from pem_server import TritonServer


@pytest.fixture(scope="session")
def server(real_server: TritonServer) -> TritonServer:
    """The server of `model_repository`."""
    return real_server


@pytest.fixture(params=["grpc", "http"])
def client(server: TritonServer, request: pytest.FixtureRequest) -> Iterator[Client]:
    """A client over each protocol."""
    address = server.grpc_url if request.param == "grpc" else server.http_url
    with Client(f"{request.param}://{address}") as client:
        yield client


@pytest.fixture
def grpc_client(server: TritonServer) -> Iterator[Client]:
    """A client over gRPC, where the protocol does not matter."""
    with Client(f"grpc://{server.grpc_url}") as client:
        yield client


@pytest.fixture(scope="session")
def street_path(root: Path) -> Path:
    """The drawn street that the demo segments."""
    return root / "docs" / "street.jpg"


@pytest.fixture(scope="session")
def street(street_path: Path) -> Image.Image:
    """The same, decoded."""
    with Image.open(street_path) as image:
        return image.convert("RGB")
