"""From an accepted request to its answer: what waits, waits here, where it can still be dropped.

Only as many requests are inside tritonserver as keep all of its steps busy. A client that leaves or
whose deadline passes costs nothing while its request is here; after that its answer is computed and
thrown away, because tritonserver must never see a cancellation.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import grpc
from grpc import StatusCode

from .admission import Admission, loop_time
from .backend import Backend, BackendGone
from .fifo_window import FifoWindow, Place
from .infer_request import Work
from .refusal import Refusal

PATIENCE_S = 30.0  # of a client that names no deadline
TRIES = 2  # servers that one request may be sent to: the second may die of it, a third need not
# What pem_preprocess and the others refuse: the client's mistake, not ours.
BAD_IMAGE = (StatusCode.INVALID_ARGUMENT,)


@dataclass(eq=False)
class _Client:
    """Who waits for an accepted request."""

    deadline: float
    limit: asyncio.Timeout
    hopeless: bool = False  # no server will be there before the deadline


class Dispatcher:
    """Sends accepted requests to the backend, first come, first served.

    `window`: images inside tritonserver at a time. `decode_s` estimates the decoding of a work.
    """

    def __init__(
        self,
        backend: Backend,
        admission: Admission,
        window: int,
        decode_s: Callable[[Work], float],
    ) -> None:
        self._backend, self._admission, self._decode_s = backend, admission, decode_s
        self._window = FifoWindow(window)
        self._running: set[asyncio.Task[bytes]] = set()
        self._waiting: set[_Client] = set()
        backend.on_lost = self._drop_hopeless

    async def submit(self, work: Work, raw: bytes, patience_s: float | None) -> bytes:
        """The serialized ModelInferResponse for `raw`, the serialized request of `work`.

        Raises Refusal: UNAVAILABLE where it cannot be answered in time, DEADLINE_EXCEEDED when
        its time is over, else what tritonserver says. Cancelled, it drops a request that waits.
        """
        limits = [PATIENCE_S, patience_s, work.timeout_s]
        patience = min(limit for limit in limits if limit is not None)
        deadline = loop_time() + patience
        if self._backend.back_in_s > patience:
            raise _restarting(self._backend.back_in_s)
        decode_s = self._decode_s(work)
        client = _Client(deadline, asyncio.timeout_at(deadline))
        with self._admission.accept(work.images, decode_s, patience):
            self._waiting.add(client)
            try:
                async with client.limit:
                    await self._enter(place := self._window.enter(work.images), patience)
                    task = asyncio.create_task(self._send(work, decode_s, raw, client))
                    self._running.add(task)
                    task.add_done_callback(lambda task: self._ended(task, place))
                    return await asyncio.shield(task)
            except TimeoutError:
                if client.hopeless:
                    raise _restarting(self._backend.back_in_s) from None
                raise _too_late(patience) from None
            finally:
                self._waiting.discard(client)

    async def drained(self) -> None:
        """Return when every accepted request whose client still waits has been answered."""
        while self._waiting:
            await asyncio.sleep(0.02)

    async def _enter(self, place: Place, patience: float) -> None:
        """Wait until a request may go into tritonserver.

        What was accepted for less than the limit and still waits after it came before the machine
        got slower. It would be late, and would make those behind it late.
        """
        server = self._backend.server
        allowed = self._admission.limit_s
        # Less what it takes from there on: those before it inside tritonserver, and itself.
        limit = allowed - min(allowed / 2, self._window.size * self._admission.seconds_per_image)
        try:
            await asyncio.wait({place.granted}, timeout=limit if limit < patience else None)
            if not place.granted.done():
                if server is self._backend.server and self._backend.ready.is_set():
                    expected = allowed + self._admission.expected_s(0)
                    raise self._admission.overloaded(expected, allowed)
                await asyncio.wait({place.granted})  # a new server answers what waited for it
        except BaseException:
            self._window.leave(place)
            raise

    def _drop_hopeless(self) -> None:
        """Tell at once who has no time to wait for the next server."""
        back_at = loop_time() + self._backend.back_in_s
        for client in self._waiting:
            if client.deadline < back_at and not client.limit.expired():
                client.hopeless = True
                client.limit.reschedule(0.0)

    def _ended(self, task: asyncio.Task[bytes], place: Place) -> None:
        self._running.discard(task)
        self._window.leave(place)
        if not task.cancelled():
            task.exception()  # of a request that nobody waits for any more

    async def _send(self, work: Work, decode_s: float, raw: bytes, client: _Client) -> bytes:
        for _ in range(TRIES):
            await self._backend.ready.wait()
            if client not in self._waiting:
                break  # it has left
            sent, answered = self._admission.note_sent(work.images, decode_s), False
            try:
                answer = await self._backend.infer(raw)
                answered = True
                return answer
            except BackendGone:
                continue
            except grpc.aio.AioRpcError as error:
                reason = "bad_image" if error.code() in BAD_IMAGE else "failed"
                raise Refusal(error.code(), reason, error.details() or "no reason given") from error
            finally:
                self._admission.note_done(sent, answered=answered)
        raise _restarting(self._backend.back_in_s)


def _too_late(patience_s: float) -> Refusal:
    return Refusal(
        StatusCode.DEADLINE_EXCEEDED,
        "deadline",
        f"the answer took longer than the {patience_s:.3g} s that the request allows; give it more "
        "time",
    )


def _restarting(seconds: float) -> Refusal:
    return Refusal(
        StatusCode.UNAVAILABLE,
        "restarting",
        "the server is being restarted; send this image again in a few seconds",
        retry_after_s=seconds,
    )
