"""From an accepted request to its answer: what waits, waits here, where it can still be dropped.

Only as many requests are inside tritonserver as keep all of its steps busy. A client that leaves or
whose deadline passes costs nothing while its request is here; after that its answer is computed and
thrown away, because tritonserver must never see a cancellation.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

import grpc
from grpc import StatusCode

from .admission import Admission
from .backend import Backend, BackendGone
from .infer_request import Work
from .refusal import Refusal

PATIENCE_S = 30.0  # of a client that names no deadline
DRAIN_LOOK_S = 0.05
TRIES = 2  # servers that one request may be sent to: the second may die of it, a third need not


@dataclass(eq=False)
class _Place:
    """An accepted request whose client still waits for it."""

    deadline: float
    limit: asyncio.Timeout
    hopeless: bool = False  # no server will be there before its deadline


class Dispatcher:
    """Sends accepted requests to the backend, first come, first served.

    `window`: requests inside tritonserver at a time. `decode_s` estimates the decoding of a work.
    """

    def __init__(
        self,
        backend: Backend,
        admission: Admission,
        window: int,
        decode_s: Callable[[Work], float],
    ) -> None:
        self._backend, self._admission, self._decode_s = backend, admission, decode_s
        self._window = asyncio.Semaphore(window)  # wakes waiters in their order
        self._running: set[asyncio.Task[bytes]] = set()
        self._waiting: set[_Place] = set()
        backend.on_lost = self._drop_hopeless

    async def submit(self, work: Work, raw: bytes, patience_s: float | None) -> bytes:
        """The serialized ModelInferResponse for `raw`, the serialized request of `work`.

        Raises Refusal: UNAVAILABLE where it cannot be answered in time, DEADLINE_EXCEEDED when
        its time is over, else what tritonserver says. Cancelled, it drops a request that waits.
        """
        limits = [PATIENCE_S, patience_s, work.timeout_s]
        patience = min(limit for limit in limits if limit is not None)
        deadline = time.monotonic() + patience
        if self._backend.back_in_s > patience:
            raise _restarting(self._backend.back_in_s)
        with self._admission.accept(work.images, self._decode_s(work), patience):
            place = _Place(deadline, asyncio.timeout(patience))
            self._waiting.add(place)
            try:
                async with place.limit:
                    await self._window.acquire()
                    task = asyncio.create_task(self._send(work, raw, place))
                    self._running.add(task)
                    task.add_done_callback(self._ended)
                    return await asyncio.shield(task)
            except TimeoutError:
                if place.hopeless:
                    raise _restarting(self._backend.back_in_s) from None
                raise Refusal(
                    StatusCode.DEADLINE_EXCEEDED,
                    "deadline",
                    f"the answer took longer than the {patience:.3g} s that the request allows; "
                    "give it more time",
                ) from None
            finally:
                self._waiting.discard(place)

    async def drained(self) -> None:
        """Return when every accepted request whose client still waits has been answered."""
        while self._waiting:
            await asyncio.sleep(DRAIN_LOOK_S)

    def _ended(self, task: asyncio.Task[bytes]) -> None:
        self._running.discard(task)
        self._window.release()
        if not task.cancelled():
            task.exception()  # of a request that nobody waits for any more

    def _drop_hopeless(self) -> None:
        """Tell at once who has no time to wait for the next server."""
        back_at = time.monotonic() + self._backend.back_in_s
        for place in self._waiting:
            if place.deadline < back_at and not place.limit.expired():
                place.hopeless = True
                place.limit.reschedule(0.0)

    async def _send(self, work: Work, raw: bytes, place: _Place) -> bytes:
        for _ in range(TRIES):
            await self._backend.ready.wait()
            if place not in self._waiting:
                break  # its client has left
            began = time.monotonic()
            try:
                answer = await self._backend.infer(raw)
            except BackendGone:
                continue
            except grpc.aio.AioRpcError as error:
                raise Refusal(
                    error.code(), "failed", error.details() or "no reason given"
                ) from error
            self._admission.note_answer(work.images, time.monotonic() - began)
            return answer
        raise _restarting(self._backend.back_in_s)


def _restarting(seconds: float) -> Refusal:
    return Refusal(
        StatusCode.UNAVAILABLE,
        "restarting",
        "the server is being restarted; send this image again in a few seconds",
        retry_after_s=seconds,
    )
