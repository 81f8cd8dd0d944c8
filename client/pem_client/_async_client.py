"""The client for asyncio: the same calls and errors, any number of calls at once."""

import asyncio

import numpy as np
from numpy.typing import NDArray

from . import _protocol
from ._detections import Detections
from ._errors import PemError
from ._image import ImageInput, encode_image
from ._protocol import Tensors
from ._transports import AsyncTransport, open_async_transport


class AsyncClient:
    """`Client` for asyncio, usable only inside `async with AsyncClient(url) as client`.

    url: grpc://host:port. The other arguments are as for `Client`. For one event loop.
    """

    def __init__(
        self,
        url: str = _protocol.DEFAULT_URL,
        *,
        model: str = _protocol.DEFAULT_MODEL,
        timeout_s: float = _protocol.DEFAULT_TIMEOUT_S,
        api_key: str | None = None,
        transport: AsyncTransport | None = None,
    ) -> None:
        self._url = url
        self._model = model
        self._timeout_s = _protocol.checked_timeout(timeout_s)
        self._api_key = _protocol.checked_key(api_key)
        self._transport = transport

    async def infer(self, image: ImageInput, threshold: float = 0.5) -> Detections:
        """The segments of an image whose score is above `threshold`; see `Client.infer`."""
        return _protocol.read_detections(
            await self._request(image, threshold, _protocol.DETECTIONS)
        )

    async def segment(self, image: ImageInput, threshold: float = 0.5) -> NDArray[np.uint8]:
        """One (H, W) class map, class id + 1, 0 = nothing found; see `Client.segment`."""
        return _protocol.read_segmentation(
            await self._request(image, threshold, _protocol.SEGMENTATION)
        )

    async def __aenter__(self) -> "AsyncClient":
        if self._transport is None:  # here, because the connection belongs to the running loop
            self._transport = open_async_transport(self._url, self._timeout_s, self._api_key)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        transport, self._transport = self._transport, None
        if transport is not None:
            await transport.close()

    async def _request(self, image: ImageInput, threshold: float, output: str) -> Tensors:
        if self._transport is None:
            raise PemError("this client is not open; use `async with AsyncClient(url) as client`")
        # Reading and encoding take milliseconds; other calls go on meanwhile.
        encoded = await asyncio.to_thread(encode_image, image)
        inputs = _protocol.request_tensors(encoded, threshold)
        return await self._transport.infer(self._model, inputs, [output])
