"""KServe's gRPC protocol, as tritonserver speaks it: what is checked goes on, the rest is refused.

Requests arrive as bytes, so that an unreadable one is the client's error and has a sentence.
"""

import math
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message
from tritonclient.grpc import service_pb2

from .front import Front
from .guard import Guard
from .refusal import Refusal, bad_request, unsupported

SERVICE = "inference.GRPCInferenceService"
HEALTH = "grpc.health.v1.Health"
SERVING, NOT_SERVING = b"\x08\x01", b"\x08\x02"  # HealthCheckResponse.status, field 1
Context = Any  # grpc.aio.ServicerContext, which has no type for the checker
Answer = Callable[[bytes, Context], Awaitable[bytes]]
MOST_CALLS = 4096  # of all clients; beyond it gRPC itself answers RESOURCE_EXHAUSTED
CONNECTION = (
    ("grpc.max_concurrent_streams", 1024),  # of one connection; the client waits beyond it
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.max_metadata_size", 16 << 10),
    # A peer that is gone is noticed; one that pings more often than tritonserver allows is not.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 300_000),
    ("grpc.http2.max_ping_strikes", 2),
)
NOT_SERVED = {
    "ModelStreamInfer": "streaming is not supported; send each image by ModelInfer",
    "SystemSharedMemoryRegister": "shared memory is not supported; send the tensor's content",
    "CudaSharedMemoryRegister": "shared memory is not supported; send the tensor's content",
}


class GrpcProtocol(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Every method that clients may call, by its name."""

    def __init__(self, front: Front, guard: Guard) -> None:
        self._front, self._guard = front, guard
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
        method = details.method
        answer = self._methods.get(method) or self._refused(method)

        async def handle(requests: AsyncIterator[bytes], context: Context) -> bytes:
            try:
                with (
                    self._guard.grpc_request(method, context) as client,
                    self._guard.budget.hold(client) as held,
                ):
                    request = await self._guard.message(method, requests)
                    held.grow(len(request))
                    return await answer(request, context)
            except Refusal as refusal:
                await context.abort(refusal.code, refusal.sentence, _trailing(refusal))
                raise  # abort has raised already

        if method.endswith("/ModelStreamInfer"):
            return grpc.stream_stream_rpc_method_handler(self._stream(answer))
        # As a stream of one message: a client without a key is refused before it is read.
        return grpc.stream_unary_rpc_method_handler(handle)

    async def _infer(self, request: bytes, context: Context) -> bytes:
        message = parse(service_pb2.ModelInferRequest, request)
        return await self._front.infer(message, request, context.time_remaining())

    async def _server_live(self, request: bytes, _: Context) -> bytes:
        parse(service_pb2.ServerLiveRequest, request)
        return _serialized(service_pb2.ServerLiveResponse(live=True))

    async def _server_ready(self, request: bytes, _: Context) -> bytes:
        parse(service_pb2.ServerReadyRequest, request)
        return _serialized(service_pb2.ServerReadyResponse(ready=self._front.is_ready))

    async def _model_ready(self, request: bytes, _: Context) -> bytes:
        asked = parse(service_pb2.ModelReadyRequest, request)
        is_known = asked.name in self._front.contract.models and asked.version in ("", "1")
        ready = self._front.is_ready and is_known
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


def make_server(front: Front, guard: Guard, address: str, largest_message: int) -> grpc.aio.Server:
    """A server on `address` that is not started yet."""
    server = grpc.aio.server(
        maximum_concurrent_rpcs=MOST_CALLS,
        options=(
            *CONNECTION,
            ("grpc.max_receive_message_length", largest_message),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),  # else a second gateway shares the port silently
        ),
    )
    server.add_generic_rpc_handlers((GrpcProtocol(front, guard),))
    credentials = guard.grpc_credentials()
    port = (
        server.add_secure_port(address, credentials)
        if credentials
        else server.add_insecure_port(address)
    )
    if not port:
        raise OSError(f"cannot listen on {address}")
    return server


def _trailing(refusal: Refusal) -> tuple[tuple[str, str], ...]:
    """When the same request may be accepted, as HTTP's Retry-After says it."""
    if refusal.retry_after_s is None:
        return ()
    return (("retry-after-ms", str(math.ceil(refusal.retry_after_s * 1000))),)


def _serialized(message: Message) -> bytes:
    return bytes(message.SerializeToString())
