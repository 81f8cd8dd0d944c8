"""KServe's gRPC protocol, as tritonserver speaks it: what is checked goes on, the rest is refused.

Requests arrive as bytes, so that an unreadable one is the client's error and has a sentence.
"""

import math
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message
from tritonclient.grpc import service_pb2

from .front import Front
from .refusal import Refusal, bad_request, unsupported

SERVICE = "inference.GRPCInferenceService"
HEALTH = "grpc.health.v1.Health"
SERVING, NOT_SERVING = b"\x08\x01", b"\x08\x02"  # HealthCheckResponse.status, field 1
Context = Any  # grpc.aio.ServicerContext, which has no type for the checker
Answer = Callable[[bytes, Context], Awaitable[bytes]]
NOT_SERVED = {
    "ModelStreamInfer": "streaming is not supported; send each image by ModelInfer",
    "SystemSharedMemoryRegister": "shared memory is not supported; send the tensor's content",
    "CudaSharedMemoryRegister": "shared memory is not supported; send the tensor's content",
}


class GrpcProtocol(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Every method that clients may call, by its name."""

    def __init__(self, front: Front) -> None:
        self._front = front
        self._methods: dict[str, Answer] = {
            f"/{SERVICE}/ModelInfer": self._infer,
            f"/{SERVICE}/ServerLive": self._server_live,
            f"/{SERVICE}/ServerReady": self._server_ready,
            f"/{SERVICE}/ModelReady": self._model_ready,
            f"/{HEALTH}/Check": self._health,
        }
        for name in ("ServerMetadata", "ModelMetadata", "ModelConfig", "ModelStatistics"):
            self._methods[f"/{SERVICE}/{name}"] = self._forwarded(name)

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        """The handler of one call; an unknown method is answered with a sentence."""
        answer = self._methods.get(details.method) or self._refused(details.method)

        async def handle(request: bytes, context: Context) -> bytes:
            try:
                return await answer(request, context)
            except Refusal as refusal:
                await context.abort(refusal.code, refusal.sentence, _trailing(refusal))
                raise  # abort has raised already

        if details.method.endswith("/ModelStreamInfer"):
            return grpc.stream_stream_rpc_method_handler(self._stream(answer))
        return grpc.unary_unary_rpc_method_handler(handle)

    async def _infer(self, request: bytes, context: Context) -> bytes:
        message = parse(service_pb2.ModelInferRequest, request)
        return await self._front.infer(message, request, context.time_remaining())

    async def _server_live(self, request: bytes, _: Context) -> bytes:
        return _serialized(service_pb2.ServerLiveResponse(live=True))

    async def _server_ready(self, request: bytes, _: Context) -> bytes:
        return _serialized(service_pb2.ServerReadyResponse(ready=self._front.is_ready))

    async def _model_ready(self, request: bytes, _: Context) -> bytes:
        name = parse(service_pb2.ModelReadyRequest, request).name
        ready = self._front.is_ready and name in self._front.contract.models
        return _serialized(service_pb2.ModelReadyResponse(ready=ready))

    async def _health(self, request: bytes, _: Context) -> bytes:
        return SERVING if self._front.is_ready else NOT_SERVING

    def _forwarded(self, name: str) -> Answer:
        kind = getattr(service_pb2, f"{name}Request")

        async def forward(request: bytes, _: Context) -> bytes:
            return await self._front.forward(f"/{SERVICE}/{name}", parse(kind, request))

        return forward

    def _refused(self, method: str) -> Answer:
        name = method.rpartition("/")[2][:60]

        async def refuse(_: bytes, __: Context) -> bytes:
            raise unsupported(NOT_SERVED.get(name, f"{name} is not served here"))

        return refuse

    def _stream(self, answer: Answer) -> Callable[[Any, Context], Awaitable[None]]:
        async def handle(_: Any, context: Context) -> None:
            try:
                await answer(b"", context)
            except Refusal as refusal:
                await context.abort(refusal.code, refusal.sentence)

        return handle


def parse(kind: type[Any], request: bytes) -> Any:
    """The message in `request`. Raises Refusal where the bytes are none."""
    try:
        return kind.FromString(request)
    except DecodeError:
        raise bad_request(
            f"the request is no {kind.DESCRIPTOR.name} of protobuf; make it with a client of the "
            "KServe protocol, such as tritonclient"
        ) from None


def make_server(front: Front, address: str, largest_message: int) -> grpc.aio.Server:
    """A server on `address` that is not started yet."""
    server = grpc.aio.server(
        options=(
            ("grpc.max_receive_message_length", largest_message),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),  # else a second gateway shares the port silently
        )
    )
    server.add_generic_rpc_handlers((GrpcProtocol(front),))
    if not server.add_insecure_port(address):
        raise OSError(f"cannot listen on {address}")
    return server


def _trailing(refusal: Refusal) -> tuple[tuple[str, str], ...]:
    """When the same request may be accepted, as HTTP's Retry-After says it."""
    if refusal.retry_after_s is None:
        return ()
    return (("retry-after-ms", str(math.ceil(refusal.retry_after_s * 1000))),)


def _serialized(message: Message) -> bytes:
    return bytes(message.SerializeToString())
