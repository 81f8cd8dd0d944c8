"""The life of tritonserver behind the gateway: started, watched, restarted, never cancelled."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc

from pem_server import LocalServerError, TritonServer

from .process_watch import ProcessWatch

MODEL_INFER = "/inference.GRPCInferenceService/ModelInfer"
CHANNEL = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.enable_http_proxy", 0),  # the server is on this machine
)
WATCH_EVERY_S = 0.2
LONGEST_BACK_OFF_S = 30.0
STEADY_S = 60.0  # a server that lived so long is restarted at once
LEAST_STALL_S = 5.0  # without any answer, while some are due


class BackendGone(Exception):
    """The server that had the request has ended, or was ended because it stood still."""


class Backend:
    """One tritonserver after another, on ports of its own.

    `make_server` returns a new server; `log` gets one sentence for each change.
    """

    def __init__(self, make_server: Callable[[], TritonServer], log: Callable[[str], None]) -> None:
        self._make_server, self._log = make_server, log
        self.server: TritonServer | None = None
        self.ready = asyncio.Event()
        self.start_took_s = 10.0  # until the first start has been timed
        self.restarts = 0
        self.expected_answer_s: Callable[[], float] = lambda: 1.0
        self.warm_up: Callable[[], Awaitable[None]] = _no_warm_up  # before a server counts as ready
        self._channel: grpc.aio.Channel | None = None
        self._in_flight = 0
        self._last_progress = time.monotonic()
        self._lost: asyncio.Future[str] | None = None  # done with the reason when the server is

    async def run(self) -> None:
        """Keep a server running until cancelled. LocalServerError if the first cannot start."""
        back_off = 0.0
        while True:
            began = time.monotonic()
            try:
                reason = await self._live()
            except LocalServerError as error:
                if not self.restarts and not self._ever_ready:
                    raise
                reason = str(error)
            lived = time.monotonic() - began
            back_off = 0.0 if lived > STEADY_S else min(max(1.0, back_off * 2), LONGEST_BACK_OFF_S)
            if self._ever_ready and self.restarts == 0:
                back_off = 0.0
            self.restarts += 1
            again = f"in {back_off:g} s" if back_off else "now"
            self._log(f"tritonserver is restarted {again}: {reason}")
            await asyncio.sleep(back_off)

    _ever_ready = False

    async def infer(self, raw: bytes) -> bytes:
        """Send a serialized ModelInferRequest. Raises BackendGone, or grpc.aio.AioRpcError.

        Never cancel it: a cancelled request can end tritonserver 2.51. Shield it.
        """
        channel, lost = self._channel, self._lost
        if channel is None or lost is None or lost.done():
            raise BackendGone
        call = channel.unary_unary(MODEL_INFER)(raw)
        if not self._in_flight:
            self._last_progress = time.monotonic()
        self._in_flight += 1
        answer = asyncio.ensure_future(_result(call))
        try:
            due: set[asyncio.Future[Any]] = {answer, lost}
            await asyncio.wait(due, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                answer.cancel()  # of a server that is gone
                raise BackendGone
            return answer.result()
        except grpc.aio.AioRpcError as error:
            if await self._is_lost(error, lost):
                raise BackendGone from error
            raise
        finally:
            self._in_flight -= 1
            self._last_progress = time.monotonic()

    async def call(self, method: str, raw: bytes) -> bytes:
        """Ask tritonserver something short. Raises grpc.aio.AioRpcError."""
        await self.ready.wait()
        assert self._channel is not None
        return bytes(await self._channel.unary_unary(method)(raw))

    async def _is_lost(self, error: grpc.aio.AioRpcError, lost: asyncio.Future[str]) -> bool:
        """Whether an error came of the server's end, which the watch notices a bit later."""
        if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL):
            return False
        await asyncio.wait({lost}, timeout=5 * WATCH_EVERY_S)
        return lost.done()

    async def _live(self) -> str:
        """Start a server, watch it, and return why it ended."""
        server = self.server = self._make_server()
        began = time.monotonic()
        try:
            await asyncio.to_thread(_start, server)
            self.start_took_s = time.monotonic() - began
            watch = ProcessWatch(server.pid)
            self._channel = grpc.aio.insecure_channel(server.grpc_url, options=CHANNEL)
            self._lost = asyncio.get_running_loop().create_future()
            self._ever_ready = True
            await self.warm_up()
            self.ready.set()
            while not (reason := watch.problem() or self._stall(server)):
                await asyncio.sleep(WATCH_EVERY_S)
            self._lost.set_result(reason)
            return reason
        finally:
            self.ready.clear()
            await asyncio.shield(asyncio.to_thread(server.kill))
            if self._channel is not None:
                await self._channel.close()
                self._channel = None

    def _stall(self, server: TritonServer) -> str | None:
        if not server.is_running():
            return server.why_ended()
        limit = max(LEAST_STALL_S, 20 * self.expected_answer_s())
        if self._in_flight and time.monotonic() - self._last_progress > limit:
            return f"it gave no answer for {limit:.0f} s while {self._in_flight} requests waited"
        return None


async def _no_warm_up() -> None:
    pass


async def _result(call: grpc.aio.UnaryUnaryCall) -> bytes:
    return bytes(await call)


def _start(server: TritonServer) -> None:
    server.start()
    server.wait_until_ready()


def triton_server(repository: Path) -> Callable[[], TritonServer]:
    """A maker of servers of one repository, on free ports."""
    return lambda: TritonServer(repository)
