"""The wire format: addresses, request tensors, responses."""

import numpy as np
import pytest

from pem_client import ServerError, UrlError
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
        ("localhost:8001", ("grpc", "localhost:8001")),
        ("[::1]:8001", ("grpc", "[::1]:8001")),
        ("grpc://triton:8001/", ("grpc", "triton:8001")),
        ("http://gateway:80/pem/", ("http", "gateway:80/pem")),
    ],
)
def test_an_address_names_its_wire_and_is_grpc_without_a_scheme(url, parsed):
    assert parse_url(url) == parsed


BARE = ["", "host", "8001", ":8001", "host:port", "host:99999"]
SCHEMES = "grpc:// grpc://host grpc://host:8001/path http://host http://[::1:8000 https://host:443"


@pytest.mark.parametrize("url", [*BARE, *SCHEMES.split(), "ftp://host:21"])
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
    ("tensor", "found"),
    [
        (None, "None"),
        (np.empty((1, 0), dtype=object), r"\(1, 0\) object"),
        (np.array([[b"a"], [b"b"]], dtype=object), r"\(2, 1\) object"),
        (np.array([[0.5]], np.float32), "float32"),
        (np.array([["text"]], dtype=object), "object"),
        (np.array([[b"neither JSON nor PNG"]], dtype=object), "JSON|decode"),
    ],
)
def test_any_other_output_is_the_servers_error_and_named(tensor, found):
    for name, read in (("detections", read_detections), ("segmentation", read_segmentation)):
        with pytest.raises(ServerError, match=found):
            read({name: tensor})


def test_a_key_comes_from_the_argument_or_the_environment(monkeypatch):
    monkeypatch.delenv("PEM_API_KEY", raising=False)
    assert (checked_key(None), checked_key("given")) == (None, "given")
    monkeypatch.setenv("PEM_API_KEY", "oftheenvironment\n")
    assert (checked_key(None), checked_key("given")) == ("oftheenvironment", "given")


@pytest.mark.parametrize("key", ["", "two words", "line\nbreak", "\u00e9", "\0"])
def test_a_key_that_no_header_can_hold_is_refused_without_naming_it(key):
    with pytest.raises(ValueError, match="api_key") as caught:
        checked_key(key)
    assert not key or key not in str(caught.value)
