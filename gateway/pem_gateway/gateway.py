"""One gateway from start to end: tritonserver behind it, three ports before it, then a drain."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import uvicorn
from starlette.types import ASGIApp

from pem_server import LocalServerError, TritonServer
from pem_server.console import log
from pem_server.stub_network import Cost, stub_repository

from . import grpc_server
from .admission import Admission
from .backend import Backend, even_if_cancelled
from .callable_models import Contract, load_contract
from .decode_cost import images_seconds
from .dispatcher import Dispatcher
from .front import Front
from .gateway_metrics import Metrics
from .guard import Guard
from .guard_settings import GuardSettings
from .http_server import HttpProtocol
from .page_files import page_routes
from .rest import Rest
from .warm_up import warm_up

LAST_WORDS_S = 10.0  # for answers that are being sent, and overlays being drawn, when it stops


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a gateway can be told."""

    repository: Path
    bind: str = "127.0.0.1"
    http_port: int = 8000
    grpc_port: int = 8001
    metrics_port: int = 8002
    limit_s: float = 5.0  # an image that would be answered later is refused
    settle_s: float = 0.0  # from SIGTERM, for load balancers to notice, until new ones are refused
    guard: GuardSettings = field(default_factory=GuardSettings)
    config_name: str | None = None
    stub_network: Cost | None = None  # instead of the network
    on_log: Callable[[str], None] | None = None  # gets tritonserver's log
    verbose: bool = False

    def make_server(self) -> Callable[[], TritonServer]:
        """What makes a tritonserver on free ports, and another each time it is called."""
        return lambda: TritonServer(
            self.repository,
            config_name=self.config_name,
            stub_network=self.stub_network,
            verbose=self.verbose,
            on_log=self.on_log,
        )


class Gateway:
    """One that is ready."""

    def __init__(self, front: Front, supervised: asyncio.Task[None], settings: Settings) -> None:
        self.front, self._supervised, self._settings = front, supervised, settings

    async def serve_until(self, stopping: asyncio.Event) -> None:
        """Serve until the event, then drain."""
        stop = asyncio.create_task(stopping.wait())
        await asyncio.wait({stop, self._supervised}, return_when=asyncio.FIRST_COMPLETED)
        if self._supervised.done():
            self._supervised.result()  # raises what it failed of
        await self.drain()

    async def drain(self) -> None:
        """Say "not ready" for `settle_s`, refuse what is new then, and answer all accepted."""
        self.front.draining = True
        await asyncio.sleep(self._settings.settle_s)
        self.front.refusing = True
        await self.front.drained()


@contextlib.asynccontextmanager
async def open_gateway(settings: Settings) -> AsyncIterator[Gateway]:
    """A gateway that is ready, until the block ends; its ports are open, not ready, before that.

    LocalServerError or OSError where it cannot start.
    """
    contract = _contract(settings)
    admission = Admission(settings.limit_s, contract.decoders, contract.batch)
    backend = Backend(settings.make_server(), log)
    backend.expected_answer_s = lambda: admission.seconds_per_image
    backend.warm_up = lambda: warm_up(backend, admission, settings.repository, contract.batch)
    dispatcher = Dispatcher(
        backend,
        admission,
        contract.window,
        lambda work: images_seconds(work.encoded, contract.limits),
    )
    front = Front(contract, backend, dispatcher, Metrics())
    http = HttpProtocol(front)
    guard = Guard(settings.guard, log)
    host = f"[{settings.bind}]" if ":" in settings.bind else settings.bind
    grpc_port = grpc_server.make_server(
        front, guard, f"{host}:{settings.grpc_port}", http.largest_body
    )
    served = guard.http_app(http.app([*Rest(front).routes(), *page_routes()]))
    async with contextlib.AsyncExitStack() as stack:
        supervised = asyncio.create_task(backend.run())
        stack.push_async_callback(_cancelled, supervised)
        stack.push_async_callback(_stopped, grpc_port)
        await even_if_cancelled(grpc_port.start())  # one that is half started cannot be stopped
        for app, port, options in (
            (served, settings.http_port, guard.uvicorn_options()),
            (http.metrics_app(), settings.metrics_port, {}),
        ):
            await stack.enter_async_context(_serving(app, settings.bind, port, options))
        ready = asyncio.create_task(backend.ready.wait())
        await asyncio.wait({supervised, ready}, return_when=asyncio.FIRST_COMPLETED)
        if supervised.done():
            supervised.result()
        yield Gateway(front, supervised, settings)


def _contract(settings: Settings) -> Contract:
    """A stub network has another way to batch, which admission must know."""
    if settings.stub_network is None:
        return load_contract(settings.repository, settings.config_name)
    with stub_repository(settings.repository, settings.stub_network) as repository:
        return load_contract(repository)


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError, LocalServerError):
        await task


async def _stopped(server: grpc.aio.Server) -> None:
    await server.stop(0.0 if _is_in_haste() else LAST_WORDS_S)


def _is_in_haste() -> bool:
    """Whether the gateway is being cancelled, by a second signal or a failure."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def listen(bind: str, port: int) -> socket.socket:
    """A listening socket whose connections send at once.

    asyncio sets TCP_NODELAY only on sockets that name their protocol, which those of create_server
    do not. Without it each answer waited 40 ms for the client's acknowledgment of its header.
    """
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    listener = socket.create_server((bind, port), family=family, backlog=2048)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


@contextlib.asynccontextmanager
async def _serving(
    app: ASGIApp, bind: str, port: int, options: dict[str, Any]
) -> AsyncIterator[None]:
    listener = listen(bind, port)
    usual = {
        "http": "httptools",
        "ws": "none",
        "lifespan": "off",
        "log_level": "warning",
        "access_log": False,
        "timeout_graceful_shutdown": int(LAST_WORDS_S),
    }
    config = uvicorn.Config(app, **{**usual, **options})
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    task = asyncio.create_task(server._serve([listener]))
    try:
        yield
    finally:
        server.should_exit, server.force_exit = True, _is_in_haste()
        await task
