"""The server's wire format, without I/O: arguments to tensors, tensors to results."""

import ipaddress
import math
import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from ._detections import Detections
from ._errors import ServerError, UrlError
from ._image import decode_png

DEFAULT_URL = "grpc://127.0.0.1:8001"
DEFAULT_MODEL = "fai-pem-m-ade"
DEFAULT_TIMEOUT_S = 30.0
KEY_VARIABLE = "PEM_API_KEY"

IMAGE = "image"  # BYTES (1, 1): one encoded image
THRESHOLD = "threshold"  # FP32 (1, 1): scores must be greater
DETECTIONS = "detections"  # BYTES (1, 1): JSON
SEGMENTATION = "segmentation"  # BYTES (1, 1): PNG of class id + 1, 0 where nothing was found

Tensors = Mapping[str, NDArray[Any]]


def parse_url(url: str) -> tuple[str, str]:
    """("grpc" or "http", "host:port"); HTTP may have a base path after the port."""
    try:
        parts = urlsplit(url if "://" in url else f"grpc://{url}")
        complete = bool(parts.hostname and parts.port)
    except ValueError as error:  # a port that is not a number, an open bracket
        raise _unusable(url) from error
    path = parts.path.rstrip("/")
    if not complete or parts.scheme not in {"grpc", "http"} or (path and parts.scheme == "grpc"):
        raise _unusable(url)
    return parts.scheme, parts.netloc + path


def is_loopback(address: str) -> bool:
    """Whether "host:port" is on this machine, by its name or number; no name is resolved."""
    host = urlsplit(f"//{address}").hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _unusable(url: str) -> UrlError:
    return UrlError(
        f"the server's address must be grpc://host:port or http://host:port, got {url!r}"
    )


def checked_timeout(timeout_s: float) -> float:
    """`timeout_s`, or ValueError."""
    if not 0 < timeout_s < math.inf:
        raise ValueError(f"timeout_s must be a finite number of seconds above 0, got {timeout_s}")
    return timeout_s


def checked_key(api_key: str | None) -> str | None:
    """The key, by default that of the environment; ValueError for what no header can hold."""
    key = os.environ.get(KEY_VARIABLE, "").strip() or None if api_key is None else api_key
    # The key itself is not repeated, as errors are logged.
    if key is not None and not (key.isascii() and key.isprintable() and key and " " not in key):
        raise ValueError("api_key must be a text of ASCII letters, digits and signs without spaces")
    return key


def request_tensors(image: bytes, threshold: float) -> dict[str, NDArray[Any]]:
    """The two inputs for one encoded image, each with a batch dimension of one."""
    # dtype=object, because NumPy's bytes type drops trailing zeros.
    return {
        IMAGE: np.array([[image]], dtype=object),
        THRESHOLD: np.array([[threshold]], dtype=np.float32),
    }


def read_detections(outputs: Tensors) -> Detections:
    """The result in a response's `detections`; `ServerError` for anything else in it."""
    try:
        return Detections.from_json(_only_element(outputs, DETECTIONS))
    except ValueError as error:
        raise ServerError(f"unexpected response from the server: {error}") from error


def read_segmentation(outputs: Tensors) -> NDArray[np.uint8]:
    """The (H, W) class map in a response's `segmentation`: class id + 1, 0 = nothing."""
    try:
        return decode_png(_only_element(outputs, SEGMENTATION)).astype(np.uint8, copy=False)
    except ValueError as error:
        raise ServerError(f"unexpected response from the server: {error}") from error


def _only_element(outputs: Tensors, name: str) -> bytes:
    tensor = outputs.get(name)
    if tensor is None or tensor.size != 1 or not isinstance(tensor.item(), bytes):
        received = None if tensor is None else f"{tensor.shape} {tensor.dtype}"
        raise ValueError(f"output {name!r} must be one byte string, got {received}")
    element: bytes = tensor.item()
    return element
