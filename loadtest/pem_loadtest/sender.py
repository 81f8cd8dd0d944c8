"""Sends images when they are due, in each process of locust.

Locust's users are the bounded pool: the next free user takes the next arrival, waits for its time
and sends. A slow answer occupies its own user only, so the load does not fall when the server
becomes slow; when no user is free at an arrival's time, that is recorded.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from gevent import sleep  # type: ignore[import-untyped]
from gevent.event import Event  # type: ignore[import-untyped]
from gevent.lock import Semaphore  # type: ignore[import-untyped]

from .arrivals import Offsets
from .image_requests import Answer
from .images import EncodedImage, choose
from .samples import RECORD

LEAD_S = 0.5  # from the message to the first arrival: by then every process has it


class Schedule(NamedTuple):
    """What one process sends, and when.

    offsets: seconds after the start. closed_s: instead, for so long each user sends as soon as it
    has its answer (a closed loop). seed: selects the images.
    """

    number: int
    offsets: Offsets
    closed_s: float
    seed: int

    def to_message(self) -> dict[str, Any]:
        """As locust sends it to a worker."""
        return {**self._asdict(), "offsets": self.offsets.tobytes()}

    @classmethod
    def from_message(cls, message: dict[str, Any]) -> "Schedule":
        """What `to_message` was made of."""
        return cls(**{**message, "offsets": np.frombuffer(message["offsets"])})


class Sender:
    """Sends one schedule after the other; each user calls `send_next` over and over.

    good, broken: the images. on_end gets the number of a schedule and its log of samples.
    """

    def __init__(
        self,
        good: list[EncodedImage],
        broken: list[EncodedImage],
        broken_share: float,
        on_end: Callable[[int, bytes], None],
    ) -> None:
        self._good, self._broken, self._broken_share = good, broken, broken_share
        self._on_end = on_end
        self._turn = Semaphore()
        self._has_work = Event()
        self._schedule = Schedule(0, np.empty(0), 0.0, 0)
        self._start = 0.0
        self._taken = 0  # arrivals
        self._open = 0  # arrivals taken and not answered
        self._chosen: list[int] = []
        self._log = bytearray()

    def begin(self, schedule: Schedule) -> None:
        """Start a schedule LEAD_S from now; the previous one has ended."""
        self._schedule, self._taken, self._open, self._log = schedule, 0, 0, bytearray()
        rng = np.random.default_rng([schedule.seed, schedule.number])
        number = len(schedule.offsets) or 1000  # a closed loop repeats its choices
        self._chosen = choose(self._good, self._broken, self._broken_share, number, rng)
        self._start = time.monotonic() + LEAD_S
        self._has_work.set()

    def send_next(
        self, request: Callable[[int], Answer]
    ) -> tuple[int, Answer, float, float] | None:
        """Take one arrival, send it at its time: (image, answer, latency_ms, lateness_ms).

        None when no arrival is left: the user then waits for the next schedule.
        """
        free_at = time.monotonic()
        with self._turn:
            self._has_work.wait()
            due = self._take()
            if due is None:
                return None
            index = self._chosen[(self._taken - 1) % len(self._chosen)]
            sleep(max(0.0, due - time.monotonic()))
        sent = time.monotonic()
        if self._schedule.closed_s:
            due = sent
        is_pool_exhausted = free_at > due
        answer = request(index)
        latency_ms, lateness_ms = (answer.at - due) * 1e3, (sent - due) * 1e3
        self._log += RECORD.pack(
            due - self._start, latency_ms, lateness_ms, answer.outcome, index, is_pool_exhausted
        )
        self._open -= 1
        self._end_if_done()
        return index, answer, latency_ms, lateness_ms

    def _take(self) -> float | None:
        """The time of the next arrival; None, and no more work, when there is none."""
        offsets, closed_s = self._schedule.offsets, self._schedule.closed_s
        due = max(self._start, time.monotonic())
        is_left = due < self._start + closed_s if closed_s else self._taken < len(offsets)
        if not is_left:
            self._has_work.clear()
            self._end_if_done()
            return None
        if not closed_s:
            due = self._start + float(offsets[self._taken])
        self._taken += 1
        self._open += 1
        return due

    def _end_if_done(self) -> None:
        if not self._has_work.is_set() and self._open == 0:
            self._on_end(self._schedule.number, bytes(self._log))
