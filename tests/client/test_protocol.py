"""The wire contract: addresses, request tensors, answers."""

import numpy as np
import pytest

from pem_client import Detections, ServerError, UrlError
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
def test_an_address_of_another_form_is_refused_with_the_right_ones(url):
    with pytest.raises(UrlError, match="must be grpc://host:port or http://host:port") as caught:
        parse_url(url)
    assert repr(url) in str(caught.value)


def test_a_request_has_the_image_and_the_threshold_with_a_batch_dimension():
    tensors = request_tensors(b"bytes\0that end in zeros\0\0", 0.25)
    assert list(tensors) == ["image", "threshold"]
    assert (tensors["image"].shape, tensors["image"].dtype) == ((1, 1), np.object_)
    assert tensors["image"].item() == b"bytes\0that end in zeros\0\0"
    assert (tensors["threshold"].shape, tensors["threshold"].dtype) == ((1, 1), np.float32)
    assert tensors["threshold"].item() == 0.25


def test_the_answer_gives_the_detections_that_were_sent(street):
    answer = {"detections": np.array([[street.to_json().encode()]], dtype=object)}
    assert read_detections(answer) == street


def test_the_answer_gives_the_class_map_that_was_sent(png):
    class_map = np.array([[0, 3], [150, 3]], np.uint8)
    answered = read_segmentation({"segmentation": np.array([[png(class_map)]], dtype=object)})
    assert answered.dtype == np.uint8
    assert np.array_equal(answered, class_map)


@pytest.mark.parametrize(
    "tensor",
    [
        None,
        np.empty((1, 0), dtype=object),
        np.array([[b"a"], [b"b"]], dtype=object),
        np.array([[0.5]], np.float32),
        np.array([["text"]], dtype=object),
        np.array([[b"not what was agreed"]], dtype=object),
    ],
)
def test_an_answer_unlike_the_contract_is_the_servers_error(tensor):
    with pytest.raises(ServerError, match="not as agreed"):
        read_detections({"detections": tensor})
    with pytest.raises(ServerError, match="not as agreed"):
        read_segmentation({"segmentation": tensor})


def test_an_answer_of_another_shape_is_told_with_its_shape():
    two = np.array([[b"{}"], [b"{}"]], dtype=object)
    with pytest.raises(ServerError, match=r"one byte string, got \(2, 1\) object"):
        read_detections({"detections": two})


def test_an_answer_without_the_output_is_the_servers_error():
    with pytest.raises(ServerError, match="'detections' must hold one byte string, got None"):
        read_detections({})


def test_an_answer_that_found_nothing_is_read():
    answer = {"detections": np.array([[b'{"detections": [], "latency": {}}']], dtype=object)}
    assert read_detections(answer) == Detections((), {})
