"""The wire contract of the server, without I/O: arguments to tensors, tensors to results."""

import math
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from ._errors import ServerError, UrlError
from ._image import decode_png
from ._result import Detections

DEFAULT_URL = "grpc://127.0.0.1:8001"
DEFAULT_MODEL = "fai-pem-m-ade"
DEFAULT_TIMEOUT_S = 30.0

IMAGE = "image"  # BYTES (1, 1): one encoded image
THRESHOLD = "threshold"  # FP32 (1, 1): scores must be greater
DETECTIONS = "detections"  # BYTES (1, 1): JSON
SEGMENTATION = "segmentation"  # BYTES (1, 1): PNG of class id + 1, 0 where nothing was found

Tensors = Mapping[str, NDArray[Any]]


def parse_url(url: str) -> tuple[str, str]:
    """("grpc" or "http", "host:port" with the base path of an HTTP gateway behind it)."""
    try:
        parts = urlsplit(url if "://" in url else f"grpc://{url}")
        complete = bool(parts.hostname and parts.port)
    except ValueError as error:  # a port that is no number, half a bracket
        raise _unusable(url) from error
    path = parts.path.rstrip("/")
    if not complete or parts.scheme not in {"grpc", "http"} or (path and parts.scheme == "grpc"):
        raise _unusable(url)
    return parts.scheme, parts.netloc + path


def _unusable(url: str) -> UrlError:
    return UrlError(
        f"the server's address must be grpc://host:port or http://host:port, got {url!r}"
    )


def checked_timeout(timeout_s: float) -> float:
    """The time limit, if it is one."""
    if not 0 < timeout_s < math.inf:
        raise ValueError(f"timeout_s must be seconds above 0 and finite, got {timeout_s}")
    return timeout_s


def request_tensors(image: bytes, threshold: float) -> dict[str, NDArray[Any]]:
    """The two inputs for one encoded image, each with a batch dimension of one."""
    # dtype=object, because NumPy's own bytes type drops trailing zeros.
    return {
        IMAGE: np.array([[image]], dtype=object),
        THRESHOLD: np.array([[threshold]], dtype=np.float32),
    }


def read_detections(outputs: Tensors) -> Detections:
    """The result in an answer's `detections`; anything unlike the contract is a `ServerError`."""
    try:
        return Detections.from_json(_only_element(outputs, DETECTIONS))
    except ValueError as error:
        raise ServerError(f"the server's answer is not as agreed: {error}") from error


def read_segmentation(outputs: Tensors) -> NDArray[np.uint8]:
    """The (H, W) class map in an answer's `segmentation`: class id + 1, 0 = nothing."""
    try:
        return decode_png(_only_element(outputs, SEGMENTATION)).astype(np.uint8, copy=False)
    except ValueError as error:
        raise ServerError(f"the server's answer is not as agreed: {error}") from error


def _only_element(outputs: Tensors, name: str) -> bytes:
    tensor = outputs.get(name)
    if tensor is None or tensor.size != 1 or not isinstance(tensor.item(), bytes):
        arrived = None if tensor is None else f"{tensor.shape} {tensor.dtype}"
        raise ValueError(f"output {name!r} must hold one byte string, got {arrived}")
    element: bytes = tensor.item()
    return element
