"""What both protocols share: from a parsed request to the bytes of its answer."""

from typing import Any

import grpc
from google.protobuf.message import Message
from grpc import StatusCode
from tritonclient.grpc.service_pb2 import ModelInferRequest

from .backend import Backend
from .callable_models import Contract
from .dispatcher import Dispatcher
from .gateway_metrics import Metrics
from .infer_request import check
from .refusal import Refusal


class Front:
    """The gateway without its wires."""

    def __init__(
        self, contract: Contract, backend: Backend, dispatcher: Dispatcher, metrics: Metrics
    ) -> None:
        self.contract, self.backend = contract, backend
        self.metrics = metrics
        self._dispatcher = dispatcher
        self.draining = False  # readiness says no
        self.refusing = False  # new requests are refused

    @property
    def is_ready(self) -> bool:
        """Whether new requests should be sent here."""
        return self.backend.ready.is_set() and not self.draining

    async def infer(
        self, message: ModelInferRequest, raw: bytes | None, patience_s: float | None
    ) -> bytes:
        """The serialized answer. Raises Refusal. `raw` is the message serialized, if at hand."""
        with self.metrics.request() as arrival:
            if self.refusing:
                raise Refusal(
                    StatusCode.UNAVAILABLE,
                    "draining",
                    "the server is stopping; send this image to another one",
                )
            work = check(message, self.contract)
            arrival.read(work.images)
            if raw is None:
                raw = message.SerializeToString()
            return await self._dispatcher.submit(work, raw, patience_s)

    async def forward(self, method: str, message: Message) -> bytes:
        """The answer of tritonserver to a question about a model or itself. Raises Refusal."""
        try:
            return await self.backend.call(method, message.SerializeToString())
        except grpc.aio.AioRpcError as error:
            details: Any = error.details()
            raise Refusal(error.code(), "bad_request", details or "no reason given") from error

    async def drained(self) -> None:
        """Return when every accepted request has been answered."""
        await self._dispatcher.drained()
