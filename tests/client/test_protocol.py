"""The wire format: addresses, request tensors, responses."""

import numpy as np
import pytest

from pem_client import ServerError, UrlError
from pem_client._protocol import parse_url, read_detections, read_segmentation, request_tensors


@pytest.mark.parametrize(
    ("url", "parsed"),
    [
        ("127.0.0.1:8001", ("grpc", "127.0.0.1:8001")),
        ("grpc://127.0.0.1:8001", ("grpc", "127.0.0.1:8001")),
        ("grpc://triton:8001/", ("grpc", "triton:8001")),
        ("http://127.0.0.1:8000", ("http", "127.0.0.1:8000")),
        ("http://gateway:80/pem/", ("http", "gateway:80/pem")),
        ("[::1]:8001", ("grpc", "[::1]:8001")),
        ("localhost:8001", ("grpc", "localhost:8001")),
    ],
)
def test_an_address_names_its_wire_and_is_grpc_without_a_scheme(url, parsed):
    assert parse_url(url) == parsed


@pytest.mark.parametrize(
    "url",
    [
        "",
        "host",
        "8001",
        ":8001",
        "host:port",
        "host:99999",
        "grpc://",
        "grpc://host",
        "grpc://host:8001/path",
        "http://host",
        "http://[::1:8000",
        "https://host:443",
        "ftp://host:21",
    ],
)
def test_any_other_address_is_refused(url):
    with pytest.raises(UrlError, match="grpc://host:port or http://host:port") as caught:
        parse_url(url)
    assert repr(url) in str(caught.value)


def test_a_request_has_the_image_and_the_threshold_with_a_batch_dimension():
    image, threshold = request_tensors(b"bytes\0that end in zeros\0\0", 0.25).values()
    assert (image.shape, image.dtype) == ((1, 1), np.object_)
    assert image.item() == b"bytes\0that end in zeros\0\0"
    assert (threshold.shape, threshold.dtype, threshold.item()) == ((1, 1), np.float32, 0.25)


@pytest.mark.parametrize(
    "tensor",
    [
        None,
        np.empty((1, 0), dtype=object),
        np.array([[b"a"], [b"b"]], dtype=object),
        np.array([[0.5]], np.float32),
        np.array([["text"]], dtype=object),
        np.array([[b"neither JSON nor PNG"]], dtype=object),
    ],
)
def test_any_other_output_is_the_servers_error(tensor):
    with pytest.raises(ServerError):
        read_detections({"detections": tensor})
    with pytest.raises(ServerError):
        read_segmentation({"segmentation": tensor})


@pytest.mark.parametrize(
    ("outputs", "found"),
    [
        ({}, "None"),
        ({"detections": np.array([[b"{}"], [b"{}"]], dtype=object)}, r"\(2, 1\) object"),
    ],
)
def test_a_missing_or_misshapen_output_is_named(outputs, found):
    with pytest.raises(ServerError, match=f"'detections'.*{found}"):
        read_detections(outputs)
