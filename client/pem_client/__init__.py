"""Client of a fai-pem-m-ade server.

from pem_client import Client

with Client("grpc://127.0.0.1:8001") as client:
    detections = client.infer("street.jpg", threshold=0.5)
    detections.overlay("street.jpg").save("overlay.png")
"""

from ._async_client import AsyncClient
from ._client import Client
from ._detections import Detection, Detections, format_table
from ._errors import (
    AccessDenied,
    DeadlineExceeded,
    ImageError,
    InvalidRequest,
    Overloaded,
    PemError,
    ServerError,
    ServerUnavailable,
    UrlError,
)
from ._transports import Transport
from ._version import __version__ as __version__
from .palette import class_colour

__all__ = [
    "AccessDenied",
    "AsyncClient",
    "Client",
    "DeadlineExceeded",
    "Detection",
    "Detections",
    "ImageError",
    "InvalidRequest",
    "Overloaded",
    "PemError",
    "ServerError",
    "ServerUnavailable",
    "Transport",
    "UrlError",
    "class_colour",
    "format_table",
]
