"""The client: one image in, its detections or its class map out."""

import numpy as np
from numpy.typing import NDArray

from . import _protocol
from ._detections import Detections
from ._errors import ServerUnavailable
from ._image import ImageInput, encode_image
from ._protocol import Tensors
from ._transports import Transport, open_transport


class Client:
    """A connection to one server.

    url: grpc://host:port or http://host:port; without a scheme it is gRPC.
    timeout_s: time limit of a call; the server drops the request after it, too.
    api_key: the key that the server asks for; by default that of the variable PEM_API_KEY, if any.
    transport: replaces the connection to `url`, for tests.

    Methods raise subclasses of `PemError`. Not thread-safe: use one client per thread.
    """

    def __init__(
        self,
        url: str = _protocol.DEFAULT_URL,
        *,
        model: str = _protocol.DEFAULT_MODEL,
        timeout_s: float = _protocol.DEFAULT_TIMEOUT_S,
        api_key: str | None = None,
        transport: Transport | None = None,
    ) -> None:
        self._url = url
        self._model = model
        self._transport = transport or open_transport(
            url, _protocol.checked_timeout(timeout_s), _protocol.checked_key(api_key)
        )

    def infer(self, image: ImageInput, threshold: float = 0.5) -> Detections:
        """The segments of an image whose score is above `threshold` (0 to 1).

        image: a path or encoded bytes (both sent unchanged), a PIL image, or a uint8 array,
        (H, W, 3) in RGB order or (H, W). EXIF orientation is applied before segmenting, so
        boxes and masks are those of the upright image.
        """
        return _protocol.read_detections(self._request(image, threshold, _protocol.DETECTIONS))

    def segment(self, image: ImageInput, threshold: float = 0.5) -> NDArray[np.uint8]:
        """One (H, W) class map of the upright image: class id + 1, 0 where nothing was found.

        image and threshold: as for `infer`.
        """
        return _protocol.read_segmentation(self._request(image, threshold, _protocol.SEGMENTATION))

    def get_remote_model(self, name: str) -> "Client":
        """A client of another model on the same connection, once the server has it ready."""
        if not self._transport.is_model_ready(name):
            raise ServerUnavailable(
                f"model {name!r} is not ready on the server at {self._url}; "
                "check the name, or wait until it is loaded"
            )
        return Client(self._url, model=name, transport=self._transport)

    def close(self) -> None:
        """Close the connection, which clients from `get_remote_model` share."""
        self._transport.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _request(self, image: ImageInput, threshold: float, output: str) -> Tensors:
        inputs = _protocol.request_tensors(encode_image(image), threshold)
        return self._transport.infer(self._model, inputs, [output])
