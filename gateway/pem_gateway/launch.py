"""`./run serve`: a gateway on this machine until Ctrl-C."""

import asyncio
import contextlib
import signal
import time
from dataclasses import replace
from types import FrameType

from pem_server import LocalServerError, free_ports, machine_check, repository_check
from pem_server.console import log
from pem_server.serve_options import INTERRUPTED
from pem_server.server_log import Reporter

from .gateway import Settings, open_gateway

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def serve(settings: Settings) -> int:
    """Serve until Ctrl-C, SIGTERM or SIGHUP (0, or 130 after a second one), or a failure (1)."""
    settings = with_ports(settings)
    if problems := problems_of(settings):
        log("\n".join(problems))
        return 1
    try:
        return asyncio.run(_serve(settings))
    except (LocalServerError, OSError, ValueError) as error:
        log(str(error))
        return 1


def with_ports(settings: Settings) -> Settings:
    """The same, with a free port for each 0."""
    spare = free_ports(3)
    return replace(
        settings,
        http_port=settings.http_port or spare[0],
        grpc_port=settings.grpc_port or spare[1],
        metrics_port=settings.metrics_port or spare[2],
    )


def problems_of(settings: Settings) -> list[str]:
    """What would keep a gateway from serving, found without starting anything."""
    return [
        *machine_check.port_problems(settings.http_port, settings.grpc_port, settings.metrics_port),
        *repository_check.repository_problems(
            settings.repository, settings.config_name, stub_network=bool(settings.stub_network)
        ),
    ]


async def _serve(settings: Settings) -> int:
    task = asyncio.current_task()
    assert task
    signals = _Signals(task)
    reporter = Reporter(log)
    settings = replace(settings, on_log=log if settings.verbose else reporter)
    began = time.monotonic()
    log("starting the server ...")
    try:
        async with open_gateway(settings) as gateway:
            log(f"ready after {time.monotonic() - began:.1f} s")
            reporter.release()
            print(_welcome(settings), flush=True)
            signals.gateway_is_ready = True
            await gateway.serve_until(signals.stopping)
    except asyncio.CancelledError:
        if not signals.count:
            raise
    return INTERRUPTED if signals.count > 1 else 0


class _Signals:
    """The first signal sets `stopping`, where there is something to drain; others cancel."""

    def __init__(self, task: "asyncio.Task[int]") -> None:
        self._task, self._loop = task, asyncio.get_running_loop()
        self.stopping = asyncio.Event()
        self.gateway_is_ready = False
        self.count = 0
        for number in STOP_SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:  # nohup stays in force
                signal.signal(number, self._arrived)

    def _arrived(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._act)

    def _act(self) -> None:
        if self.count == 1:
            log("\nstopping, a few seconds; Ctrl-C again stops at once")
        if self.count == 1 and self.gateway_is_ready:
            self.stopping.set()
        else:
            self._task.cancel()


def _welcome(settings: Settings) -> str:
    tls = "s" if settings.guard.tls_cert else ""
    grpc = f"grpc{tls}://{settings.bind}:{settings.grpc_port}"
    http = f"http{tls}://{settings.bind}:{settings.http_port}"
    text = f"""
  gRPC     {grpc}
  HTTP     {http}
  metrics  http://{settings.bind}:{settings.metrics_port}/metrics
  page     {http}/

  try      ./run segment IMAGE --url {grpc} --overlay overlay.png
  stop     Ctrl-C
"""
    if settings.stub_network:
        text += f"  THE NETWORK IS A STUB: {settings.stub_network}. It recognizes nothing.\n"
    return text
