"""One gateway from start to end: tritonserver behind it, three ports before it, then a drain."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from pem_server.console import log

from . import grpc_server
from .admission import Admission
from .backend import Backend, triton_server
from .contract import load_contract
from .dispatcher import Dispatcher
from .front import Front
from .gateway_metrics import Metrics
from .guard import Guard
from .guard_settings import GuardSettings
from .http_server import HttpProtocol
from .infer_request import Work
from .page_files import page_routes
from .rest import Rest


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
    window: int = 4  # requests inside tritonserver
    guard: GuardSettings = field(default_factory=GuardSettings)


def decode_s(work: Work) -> float:
    """A first estimate of the decoding of a request's images, by their bytes."""
    return sum(len(each) for each in work.encoded) * 30e-9


async def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT. LocalServerError or OSError where it cannot start."""
    contract = load_contract(settings.repository)
    admission = Admission(settings.limit_s)
    backend = Backend(triton_server(settings.repository), log)
    backend.expected_answer_s = lambda: admission.seconds_per_image
    front = Front(
        contract, backend, Dispatcher(backend, admission, settings.window, decode_s), Metrics()
    )
    http = HttpProtocol(front)
    guard = Guard(settings.guard, log)
    host = f"[{settings.bind}]" if ":" in settings.bind else settings.bind
    grpc = grpc_server.make_server(front, guard, f"{host}:{settings.grpc_port}", http.largest_body)
    served = guard.http_app(http.app([*Rest(front).routes(), *page_routes()]))
    stopping = _signals()
    async with contextlib.AsyncExitStack() as stack:
        supervised = asyncio.create_task(backend.run())
        stack.push_async_callback(_cancelled, supervised)
        ready = asyncio.create_task(backend.ready.wait())
        await asyncio.wait({supervised, ready}, return_when=asyncio.FIRST_COMPLETED)
        if supervised.done():
            supervised.result()
        await grpc.start()
        stack.push_async_callback(grpc.stop, 1.0)
        for app, port, options in (
            (served, settings.http_port, guard.uvicorn_options()),
            (http.metrics_app(), settings.metrics_port, {}),
        ):
            await stack.enter_async_context(_serving(app, settings.bind, port, options))
        log(f"ready: gRPC {settings.grpc_port}, HTTP {settings.http_port}")
        await stopping.wait()
        await drain(front, settings.settle_s)


async def drain(front: Front, settle_s: float) -> None:
    """Say "not ready" for `settle_s`, refuse what is new, and answer all that was accepted."""
    front.draining = True
    await asyncio.sleep(settle_s)
    front.refusing = True
    await front.drained()


def _signals() -> asyncio.Event:
    event = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, event.set)
    return event


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


@contextlib.asynccontextmanager
async def _serving(
    app: ASGIApp, bind: str, port: int, options: dict[str, Any]
) -> AsyncIterator[None]:
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    listener = socket.create_server((bind, port), family=family, backlog=2048)
    usual = {"http": "httptools", "ws": "none", "lifespan": "off", "log_level": "warning"}
    config = uvicorn.Config(app, **{**usual, "access_log": False, **options})
    server = uvicorn.Server(config)
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    task = asyncio.create_task(server._serve([listener]))
    try:
        yield
    finally:
        server.should_exit = True
        await task
