"""Who may ask, how much, and how many bytes at a time: what both protocols do before anything else.

Off on loopback, except the budget of bytes and the limits of time. What says how the server is, and
the page with its files, is open to everybody.
"""

import asyncio
import asyncio.constants
import resource
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Any

import grpc
from grpc import StatusCode
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .api_keys import ApiKeys, presented
from .bounded_protocol import Connections
from .byte_budget import ByteBudget, Held
from .client_limits import NO_LIMITS, ClientLimits, client_of_address, host_of_peer
from .guard_settings import GuardSettings
from .http_server import HELD, refused
from .refusal import Refusal, bad_request

OPEN_PATHS = frozenset(
    {"/", "/docs", "/openapi.json", "/live", "/ready", "/v2/health/live", "/v2/health/ready"}
)
OPEN_FOLDER = "/page/"
OPEN_METHODS = frozenset(
    f"/inference.GRPCInferenceService/{name}" for name in ("ServerLive", "ServerReady")
)
HEALTH = "/grpc.health.v1.Health/"
SHARE_OF_ONE = 0.5  # of the budget of bytes, where clients are limited
FILES_SPARE = 100  # open files besides connections


class Guard:
    """Stands before one gateway, on both protocols.

    `count` is called with the reason of each refusal. Raises OSError or ValueError where a file of
    the settings cannot be used.
    """

    def __init__(
        self,
        settings: GuardSettings | None = None,
        log: Callable[[str], None] = print,
        count: Callable[[str], None] = lambda reason: None,
    ) -> None:
        self.settings = settings = settings or GuardSettings()
        self.keys = ApiKeys(settings.api_keys, log) if settings.api_keys else None
        self._limits = ClientLimits(settings.limits)
        is_limited = settings.limits != NO_LIMITS
        share = SHARE_OF_ONE if is_limited else 1.0
        self.budget = ByteBudget(settings.body_bytes, share, lambda: count("overload"))
        self._count = count
        self.connections = Connections(
            most=min(settings.most_connections, _open_files() - FILES_SPARE),
            of_each=settings.limits.connections,
            bounds=settings.bounds,
        )
        if settings.tls_cert:
            _check_certificate(settings)
            # uvicorn has no option for it; with asyncio's 60 s, connections are held for free.
            setattr(asyncio.constants, "SSL_HANDSHAKE_TIMEOUT", settings.bounds.header_s)  # noqa: B010

    @contextmanager
    def request(
        self, address: str, authorization: str | None, api_key: str | None
    ) -> Iterator[str]:
        """One request, by the name of its client. Raises Refusal."""
        try:
            name = self._name(address, authorization, api_key)
            with self._limits.request(name):
                yield name
        except Refusal as refusal:
            if refusal.reason in ("unauthenticated", "rate"):
                self._count(refusal.reason)
            raise

    def _name(self, address: str, authorization: str | None, api_key: str | None) -> str:
        if self.keys is None:
            return client_of_address(address)
        key = presented(authorization, api_key)
        if key is None:
            raise _unauthenticated("an API key is needed")
        name = self.keys.name_of(key)
        if name is None:
            raise _unauthenticated("this API key is not known")
        return name

    def http_app(self, app: ASGIApp) -> ASGIApp:
        """The application behind this guard."""
        return _GuardedApp(app, self)

    def uvicorn_options(self) -> dict[str, Any]:
        """Arguments of uvicorn.Config for the client's port."""
        options: dict[str, Any] = {
            "http": self.connections.protocol,
            "proxy_headers": False,  # else a client chooses its own address
            "server_header": False,
        }
        if self.settings.tls_cert:
            options |= {
                "ssl_certfile": str(self.settings.tls_cert),
                "ssl_keyfile": str(self.settings.tls_key),
            }
        return options

    def grpc_credentials(self) -> grpc.ServerCredentials | None:
        """For the gRPC port; None without TLS."""
        if not self.settings.tls_cert or not self.settings.tls_key:
            return None
        pair = (self.settings.tls_key.read_bytes(), self.settings.tls_cert.read_bytes())
        return grpc.ssl_server_credentials([pair])

    @contextmanager
    def grpc_request(self, method: str, context: Any) -> Iterator[str]:
        """One call, by the name of its client. Raises Refusal."""
        address = host_of_peer(context.peer())
        if _is_open_method(method):
            yield address
            return
        if self.keys is None and self.settings.limits == NO_LIMITS:
            yield address
            return
        metadata = dict(context.invocation_metadata() or ())
        with self.request(address, *_strings(metadata)) as name:
            yield name

    async def message(self, method: str, requests: AsyncIterator[bytes]) -> bytes:
        """The one message of a call. Raises Refusal where it does not come, or not in time."""
        if self.keys is not None and _is_open_method(method):
            return b""  # nothing of a stranger's message is needed
        limit = self.settings.bounds.body_s
        try:
            async with asyncio.timeout(limit):
                return await anext(requests)
        except StopAsyncIteration:
            raise bad_request("the call ended without its message; send one") from None
        except TimeoutError:
            raise Refusal(
                StatusCode.DEADLINE_EXCEEDED,
                "deadline",
                f"the message did not come within {limit:g} s; send a smaller one",
            ) from None


class _GuardedApp:
    def __init__(self, app: ASGIApp, guard: Guard) -> None:
        self._app, self._guard = app, guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http" or _is_open(scope["path"]):
            await self._app(scope, receive, send)
            return
        headers = _wanted(scope)
        address = (scope.get("client") or ("",))[0]
        try:
            with (
                self._guard.request(
                    address, headers.get(b"authorization"), headers.get(b"api-key")
                ) as name,
                self._guard.budget.hold(name, _announced(headers)) as held,
            ):
                scope[HELD] = held
                await self._app(scope, _counted(receive, held), send)
        except Refusal as refusal:
            await refused(refusal)(scope, receive, send)


def _counted(receive: Receive, held: Held) -> Receive:
    async def counted() -> Message:
        message: MutableMapping[str, Any] = await receive()
        if body := message.get("body"):
            held.grow(len(body))
        return message

    return counted


def _wanted(scope: Scope) -> Mapping[bytes, str]:
    wanted = (b"authorization", b"api-key", b"content-length")
    return {name: value.decode("latin-1") for name, value in scope["headers"] if name in wanted}


def _announced(headers: Mapping[bytes, str]) -> int:
    text = headers.get(b"content-length", "")
    return int(text) if text.isdecimal() and len(text) < 20 else 0


def _is_open_method(method: str) -> bool:
    return method in OPEN_METHODS or method.startswith(HEALTH)


def _is_open(path: str) -> bool:
    return path in OPEN_PATHS or path.startswith(OPEN_FOLDER)


def _strings(metadata: Mapping[str, Any]) -> tuple[str | None, str | None]:
    found = (metadata.get(name) for name in ("authorization", "api-key"))
    authorization, api_key = (value if isinstance(value, str) else None for value in found)
    return authorization, api_key


def _unauthenticated(problem: str) -> Refusal:
    return Refusal(
        StatusCode.UNAUTHENTICATED,
        "unauthenticated",
        f"{problem}; send it as 'Authorization: Bearer KEY' or as 'api-key: KEY'",
    )


def _open_files() -> int:
    """How many files may be open, after asking for all that are allowed."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = min(hard, 1 << 16) if hard != resource.RLIM_INFINITY else 1 << 16
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return most


def _check_certificate(settings: GuardSettings) -> None:
    assert settings.tls_cert
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(settings.tls_cert, settings.tls_key, password="")
    except ssl.SSLError as error:
        raise ValueError(
            f"{settings.tls_cert} and {settings.tls_key} must be a certificate and its key without "
            f"a password, both as PEM: {error.reason or error}"
        ) from None
