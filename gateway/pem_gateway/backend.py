"""The life of tritonserver behind the gateway: started, watched, restarted, never cancelled."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import grpc

from pem_server import LocalServerError

from .process_watch import ProcessWatch

MODEL_INFER = "/inference.GRPCInferenceService/ModelInfer"
CHANNEL = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.enable_http_proxy", 0),  # the server is on this machine
)
WATCH_EVERY_S = 0.2
LAST_LOOK_S = 0.3  # after an error, for the end of the process that caused it to be seen
LONGEST_START_S = 120.0
LEAST_STALL_S = 5.0  # without any answer, while some are due
# What Triton says of a step's process that is dead, or that it takes for dead: it starts no other.
DEAD_STEP = "is not healthy"


class Server(Protocol):
    """What is needed of pem_server.TritonServer."""

    @property
    def grpc_url(self) -> str: ...
    @property
    def http_url(self) -> str: ...
    @property
    def metrics_url(self) -> str: ...
    @property
    def pid(self) -> int: ...
    def start(self) -> None: ...
    def is_ready(self) -> bool: ...
    def is_running(self) -> bool: ...
    def why_ended(self, what: str = ...) -> str: ...
    def kill(self) -> None: ...


class BackendGone(Exception):
    """The server that had the request has ended, or was ended because it stood still."""


class BackOff:
    """The seconds before the next start: 0, 1, 2, 4 ... 30; from 0 again after a steady minute."""

    STEADY_S, LONGEST_S = 60.0, 30.0

    def __init__(self) -> None:
        self._failures = 0

    def after(self, lived_s: float) -> float:
        """How long to wait after a server that was ready for so long."""
        if lived_s >= self.STEADY_S:
            self._failures = 0
        self._failures += 1
        return 0.0 if self._failures == 1 else min(2.0 ** (self._failures - 2), self.LONGEST_S)


class Backend:
    """One tritonserver after another, on ports of its own.

    `make_server` returns a new server; `log` gets one sentence for each change. Set from outside:
    `warm_up`, done with each new server before it counts as ready; `expected_answer_s`, how long an
    answer takes; `on_lost`, called when a server is lost or could not start.
    """

    def __init__(
        self,
        make_server: Callable[[], Server],
        log: Callable[[str], None],
        watch: Callable[[int], ProcessWatch] = ProcessWatch,
    ) -> None:
        self._make_server, self._log, self._watch = make_server, log, watch
        self.server: Server | None = None
        self.ready = asyncio.Event()
        self.start_took_s = 10.0  # until the first start has been timed
        self.expected_answer_s: Callable[[], float] = lambda: 1.0
        self.warm_up: Callable[[], Awaitable[None]] = _no_warm_up
        self.on_lost: Callable[[], None] = lambda: None
        self._back_off, self._pause_s = BackOff(), 0.0
        self._ready_since = time.monotonic()
        self._back_at = self._ready_since + self.start_took_s
        self._channel: grpc.aio.Channel | None = None
        self._in_flight = 0
        self._answers = 0  # ever, as a sign of progress
        self._lost: asyncio.Future[str] | None = None  # done with the reason when the server is

    @property
    def back_in_s(self) -> float:
        """In how many seconds a server is expected to be ready; 0 where one is, or is overdue."""
        return 0.0 if self.ready.is_set() else max(0.0, self._back_at - time.monotonic())

    async def run(self) -> None:
        """Keep a server running until cancelled. LocalServerError if the first cannot start."""
        try:
            reason = await self._live()
        except LocalServerError as error:
            if DEAD_STEP not in str(error):
                raise
            # Triton gives up a step that got no processor for a second while it loads.
            self._log(f"{error} It is started again.")
            reason = await self._live()
        while True:
            when = f"in {self._pause_s:g} s" if self._pause_s else "now"
            self._log(f"{reason.rstrip('.')}; tritonserver is restarted {when}")
            await asyncio.sleep(self._pause_s)
            try:
                reason = await self._live()
            except (LocalServerError, OSError) as error:
                reason = str(error)
                self._plan_start(0.0)

    async def infer(self, raw: bytes) -> bytes:
        """Send a serialized ModelInferRequest. Raises BackendGone, or grpc.aio.AioRpcError.

        Never cancel it: a cancelled request can end tritonserver 2.51. Shield it.
        """
        channel, lost = self._channel, self._lost
        if channel is None or lost is None or lost.done():
            raise BackendGone
        call = channel.unary_unary(MODEL_INFER)(raw)
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
            self._answers += 1

    async def call(self, method: str, raw: bytes) -> bytes:
        """Ask tritonserver something short. Raises grpc.aio.AioRpcError."""
        await self.ready.wait()
        assert self._channel is not None
        return bytes(await self._channel.unary_unary(method)(raw))

    async def _is_lost(self, error: grpc.aio.AioRpcError, lost: asyncio.Future[str]) -> bool:
        """Whether an error came of the server's end, which the watch notices a bit later."""
        if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL):
            return False
        if DEAD_STEP in (error.details() or ""):
            self._lose(lost, f"a step {DEAD_STEP}")
        await asyncio.wait({lost}, timeout=LAST_LOOK_S)
        return lost.done()

    async def _live(self) -> str:
        """Start a server and watch it until it is lost; return why, once nothing is left of it."""
        server = self.server = self._make_server()
        lost = self._lost = asyncio.get_running_loop().create_future()
        try:
            began = time.monotonic()
            await _start(server)
            with self._watch(server.pid) as watch:
                self._channel = grpc.aio.insecure_channel(server.grpc_url, options=CHANNEL)
                warming = asyncio.create_task(self._warm(lost, began))
                try:
                    await self._watched(watch, lost)
                finally:
                    warming.cancel()
        finally:
            self.ready.clear()
            if not lost.done():
                lost.set_result("the gateway stops")
            await even_if_cancelled(asyncio.to_thread(server.kill))
            if self._channel is not None:
                await self._channel.close()
                self._channel = None
        reason = lost.result()
        return server.why_ended() if reason.startswith("tritonserver") else reason

    async def _warm(self, lost: asyncio.Future[str], began: float) -> None:
        """Say that the server is ready once it is warm; it is watched meanwhile."""
        with contextlib.suppress(BackendGone, grpc.aio.AioRpcError):
            await self.warm_up()
        if not lost.done():
            self._ready_since = time.monotonic()
            self.start_took_s = self._ready_since - began
            self.ready.set()

    async def _watched(self, watch: ProcessWatch, lost: asyncio.Future[str]) -> None:
        """Return once the server is lost."""
        quiet_looks, answers = 0, self._answers
        while not lost.done():
            if not self._in_flight or self._answers != answers:
                quiet_looks, answers = 0, self._answers
            quiet_looks += 1
            # In looks, not by the clock: when this process stood still, the server is not to blame.
            limit_s = max(LEAST_STALL_S, 20 * self.expected_answer_s())
            if reason := watch.problem():
                self._lose(lost, reason)
            elif quiet_looks * WATCH_EVERY_S > limit_s:
                self._lose(lost, f"{self._in_flight} requests got no answer for {limit_s:.0f} s")
            else:
                await asyncio.wait({lost}, timeout=WATCH_EVERY_S)

    def _lose(self, lost: asyncio.Future[str], reason: str) -> None:
        """Let nobody wait for this server any more."""
        if not lost.done():
            lost.set_result(reason)
            lived_s = time.monotonic() - self._ready_since if self.ready.is_set() else 0.0
            self.ready.clear()
            self._plan_start(lived_s)

    def _plan_start(self, lived_s: float) -> None:
        self._pause_s = self._back_off.after(lived_s)
        self._back_at = time.monotonic() + self._pause_s + self.start_took_s
        self.on_lost()


async def _no_warm_up() -> None:
    pass


async def _result(call: grpc.aio.UnaryUnaryCall) -> bytes:
    return bytes(await call)


async def _start(server: Server) -> None:
    """Return when it is ready. LocalServerError where it does not become so."""
    await even_if_cancelled(asyncio.to_thread(server.start))
    deadline = time.monotonic() + LONGEST_START_S
    while not await asyncio.to_thread(server.is_ready):
        if not server.is_running():
            raise LocalServerError(await asyncio.to_thread(server.why_ended, "did not start"))
        if time.monotonic() > deadline:
            raise LocalServerError(
                f"tritonserver was not ready after {LONGEST_START_S:g} s; its log (--verbose) "
                "shows the model that it is still loading."
            )
        await asyncio.sleep(0.05)


async def even_if_cancelled(action: Any) -> None:
    """Do something to its end; a cancellation takes effect afterwards."""
    task = asyncio.ensure_future(action)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        with contextlib.suppress(Exception):
            await asyncio.wait({task})
        raise
