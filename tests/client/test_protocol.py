"""The wire format: addresses, request tensors, responses."""

import numpy as np
import pytest

from pem_client import Detections, ServerError, UrlError
from pem_client._protocol import (
    checked_key,
    parse_url,
    read_detections,
    read_segmentation,
    request_tensors,
)


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
    tensors = request_tensors(b"bytes\0that end in zeros\0\0", 0.25)
    assert list(tensors) == ["image", "threshold"]
    assert (tensors["image"].shape, tensors["image"].dtype) == ((1, 1), np.object_)
    assert tensors["image"].item() == b"bytes\0that end in zeros\0\0"
    assert (tensors["threshold"].shape, tensors["threshold"].dtype) == ((1, 1), np.float32)
    assert tensors["threshold"].item() == 0.25


def test_detections_are_read(street):
    answer = {"detections": np.array([[street.to_json().encode()]], dtype=object)}
    assert read_detections(answer) == street


def test_the_class_map_is_read(png):
    class_map = np.array([[0, 3], [150, 3]], np.uint8)
    received = read_segmentation({"segmentation": np.array([[png(class_map)]], dtype=object)})
    assert received.dtype == np.uint8
    assert np.array_equal(received, class_map)


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


def test_an_empty_result_is_read():
    answer = {"detections": np.array([[b'{"detections": [], "latency": {}}']], dtype=object)}
    assert read_detections(answer) == Detections((), {})


def test_a_key_comes_from_the_argument_or_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PEM_API_KEY", raising=False)
    assert checked_key(None) is None
    assert checked_key("given") == "given"
    monkeypatch.setenv("PEM_API_KEY", " of the environment\n".replace(" ", ""))
    assert checked_key(None) == "oftheenvironment"
    assert checked_key("given") == "given"


@pytest.mark.parametrize("key", ["", "two words", "line\nbreak", "\u00e9", "\0"])
def test_a_key_that_no_header_can_hold_is_refused_without_naming_it(key: str) -> None:
    with pytest.raises(ValueError, match="api_key") as caught:
        checked_key(key)
    assert not key or key not in str(caught.value)
