"""From an accepted request to its answer: what waits, waits here, where it can still be dropped.

Only as many requests are inside tritonserver as keep all of its steps busy. A client that leaves or
whose deadline passes costs nothing while its request is here; after that its answer is computed and
thrown away, because tritonserver must never see a cancellation.
"""

import asyncio
import time
from collections.abc import Callable

import grpc
from grpc import StatusCode

from .admission import Admission
from .backend import Backend, BackendGone
from .infer_request import Work
from .refusal import Refusal

PATIENCE_S = 30.0  # of a client that names no deadline
TRIES = 2  # servers that one request may be sent to: the second may die of it, a third need not


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

    async def submit(self, work: Work, raw: bytes, patience_s: float | None) -> bytes:
        """The serialized ModelInferResponse for `raw`, the serialized request of `work`.

        Raises Refusal: UNAVAILABLE where it cannot be answered in time, DEADLINE_EXCEEDED when
        its time is over, else what tritonserver says. Cancelled, it drops a request that waits.
        """
        limits = [PATIENCE_S, patience_s, work.timeout_s]
        patience = min(limit for limit in limits if limit is not None)
        deadline = time.monotonic() + patience
        self._check_server(patience)
        with self._admission.accept(work.images, self._decode_s(work), patience):
            try:
                async with asyncio.timeout(patience):
                    await self._window.acquire()
                    task = asyncio.create_task(self._send(work, raw, deadline))
                    self._running.add(task)
                    task.add_done_callback(self._ended)
                    return await asyncio.shield(task)
            except TimeoutError:
                raise Refusal(
                    StatusCode.DEADLINE_EXCEEDED,
                    "deadline",
                    f"the answer took longer than the {patience:.3g} s that the request allows; "
                    "give it more time",
                ) from None

    async def drained(self) -> None:
        """Return when nothing is inside tritonserver any more."""
        while self._running:
            await asyncio.wait(self._running)

    def _ended(self, task: asyncio.Task[bytes]) -> None:
        self._running.discard(task)
        self._window.release()
        if not task.cancelled():
            task.exception()  # of a request that nobody waits for any more

    def _check_server(self, patience_s: float) -> None:
        """Refuse at once what cannot wait for a server that is being restarted."""
        if not self._backend.ready.is_set() and patience_s < self._backend.start_took_s:
            raise _restarting(self._backend.start_took_s)

    async def _send(self, work: Work, raw: bytes, deadline: float) -> bytes:
        for _ in range(TRIES):
            if not await self._wait_for_server(deadline):
                break
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
        raise _restarting(self._backend.start_took_s)

    async def _wait_for_server(self, deadline: float) -> bool:
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                await self._backend.ready.wait()
        except TimeoutError:
            return False
        return True


def _restarting(seconds: float) -> Refusal:
    return Refusal(
        StatusCode.UNAVAILABLE,
        "restarting",
        "the server is being restarted; send this image again in a few seconds",
        retry_after_s=seconds,
    )
