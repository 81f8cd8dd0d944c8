"""Connections to the server: tritonclient, over gRPC and over HTTP."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

from tritonclient.utils import np_to_triton_dtype

from ._errors import PemError, UrlError, as_pem_error
from ._protocol import Tensors, is_loopback, parse_url

# Any channel argument replaces all of tritonclient's, so the limits must be repeated: without them
# gRPC refuses responses over 4 MB. -1 is no limit. The last one finds a restarted server within a
# second; gRPC's own back-off grows to two minutes.
GRPC_CHANNEL_ARGS = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_reconnect_backoff_ms", 1000),
]


def channel_args(address: str) -> list[tuple[str, int]]:
    """The arguments of a gRPC channel; a proxy of the environment is not for this machine."""
    return [*GRPC_CHANNEL_ARGS, ("grpc.enable_http_proxy", int(not is_loopback(address)))]


class Transport(Protocol):
    """The connection of a `Client`; failures are `PemError`s."""

    def infer(self, model: str, inputs: Tensors, outputs: Sequence[str]) -> Tensors:
        """One round trip: named input tensors to the named output tensors."""
        ...

    def is_model_ready(self, model: str) -> bool:
        """Whether the server has this model loaded."""
        ...

    def close(self) -> None:
        """Close the connection; a second call does nothing."""
        ...


class AsyncTransport(Protocol):
    """The connection of an `AsyncClient`; failures are `PemError`s."""

    async def infer(self, model: str, inputs: Tensors, outputs: Sequence[str]) -> Tensors:
        """One round trip: named input tensors to the named output tensors."""
        ...

    async def close(self) -> None:
        """Close the connection."""
        ...


def open_transport(url: str, timeout_s: float, api_key: str | None = None) -> Transport:
    """The transport for an address; it connects at the first call."""
    scheme, address = parse_url(url)
    # Imported late: each protocol has its own libraries, and a program uses one of them.
    if scheme == "grpc":
        import tritonclient.grpc as triton_grpc

        client = triton_grpc.InferenceServerClient(address, channel_args=channel_args(address))
        return _Blocking(
            triton_grpc,
            client,
            url,
            timeout_s,
            call_limit={"client_timeout": timeout_s},
            api_key=api_key,
        )
    import gevent  # type: ignore[import-untyped]
    import tritonclient.http as triton_http
    from geventhttpclient.response import HTTPParseError

    # Ctrl-C reaches the caller as usual; gevent would print it as well.
    hub = gevent.get_hub()
    hub.NOT_ERROR = tuple({*hub.NOT_ERROR, KeyboardInterrupt})
    client = triton_http.InferenceServerClient(
        address, connection_timeout=timeout_s, network_timeout=timeout_s
    )
    transport = _Blocking(
        triton_http, client, url, timeout_s, broken=HTTPParseError, api_key=api_key
    )
    # The limits above are per read of the socket; this one is for the whole call.
    transport.deadline = lambda: gevent.Timeout(timeout_s, TimeoutError)
    return transport


def open_async_transport(url: str, timeout_s: float, api_key: str | None = None) -> AsyncTransport:
    """The transport for asyncio, to be called inside the event loop; gRPC only."""
    scheme, address = parse_url(url)
    if scheme != "grpc":  # tritonclient's HTTP client for asyncio blocks the loop on large bodies
        raise UrlError(f"AsyncClient supports gRPC only: use grpc://host:port, got {url!r}")
    import tritonclient.grpc.aio as triton_grpc

    client = triton_grpc.InferenceServerClient(address, channel_args=channel_args(address))
    return _Asyncio(
        triton_grpc,
        client,
        url,
        timeout_s,
        call_limit={"client_timeout": timeout_s},
        api_key=api_key,
    )


class _TritonClient:
    """Any client of tritonclient, with its exceptions translated.

    call_limit: the time limit as an argument of each call, where there is one. broken: see
    `as_pem_error`.
    """

    def __init__(
        self,
        triton: Any,
        client: Any,
        url: str,
        timeout_s: float,
        *,
        call_limit: dict[str, float] | None = None,
        broken: type[Exception] = ConnectionError,
        api_key: str | None = None,
    ) -> None:
        self._triton = triton
        self._client = client
        self._url = url
        self._timeout_s = timeout_s
        self._call_options: dict[str, Any] = dict(call_limit or {})
        if api_key:
            self._call_options["headers"] = {"authorization": f"Bearer {api_key}"}
        self._broken = broken
        self._closed = False

    def _arguments(self, model: str, inputs: Tensors, outputs: Sequence[str]) -> dict[str, Any]:
        tensors = []
        for name, values in inputs.items():
            datatype = np_to_triton_dtype(values.dtype)
            tensor = self._triton.InferInput(name, list(values.shape), datatype)
            tensors.append(tensor.set_data_from_numpy(values))
        return {
            "model_name": model,
            "inputs": tensors,
            "outputs": [self._triton.InferRequestedOutput(name) for name in outputs],
            # Microseconds, after which the server drops the request.
            "timeout": max(1, round(self._timeout_s * 1e6)),
            **self._call_options,
        }

    @contextmanager
    def _translated(self) -> Iterator[None]:
        if self._closed:
            raise PemError("this client is closed; create a new one")
        try:
            yield
        # Whatever these libraries raise, a caller catches `PemError`.
        except Exception as error:
            raise as_pem_error(error, self._url, self._timeout_s, self._broken) from error


class _Blocking(_TritonClient):
    deadline: Callable[[], AbstractContextManager[Any]] = nullcontext

    def infer(self, model: str, inputs: Tensors, outputs: Sequence[str]) -> Tensors:
        with self._translated(), self.deadline():
            response = self._client.infer(**self._arguments(model, inputs, outputs))
            return {name: response.as_numpy(name) for name in outputs}

    def is_model_ready(self, model: str) -> bool:
        with self._translated(), self.deadline():
            return bool(self._client.is_model_ready(model, **self._call_options))

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._client.close()


class _Asyncio(_TritonClient):
    async def infer(self, model: str, inputs: Tensors, outputs: Sequence[str]) -> Tensors:
        with self._translated():
            response = await self._client.infer(**self._arguments(model, inputs, outputs))
            return {name: response.as_numpy(name) for name in outputs}

    async def close(self) -> None:
        self._closed = True
        await self._client.close()
