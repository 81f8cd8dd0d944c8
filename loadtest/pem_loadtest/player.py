"""Sends images when they are due, in each process of locust.

Locust's users are the bounded pool: whoever is free takes the next arrival, waits for its time and
sends. An answer that takes long keeps its user busy and nobody else, so the load does not fall when
the server becomes slow; when no user is free at an arrival's time, that is written down.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from gevent import sleep  # type: ignore[import-untyped]
from gevent.event import Event  # type: ignore[import-untyped]
from gevent.lock import Semaphore  # type: ignore[import-untyped]

from .arrivals import Offsets
from .asking import Answer
from .images import EncodedImage, choose
from .samples import RECORD

LEAD_S = 0.5  # from the order to the first arrival: until then all processes have it


class Play(NamedTuple):
    """An order of the conductor for one process.

    offsets: seconds after the start. closed_s: instead, every user sends one image after the
    other for so long. seed: decides which images.
    """

    number: int
    offsets: Offsets
    closed_s: float
    seed: int

    def to_message(self) -> dict[str, Any]:
        """As locust sends it to a worker."""
        return {**self._asdict(), "offsets": self.offsets.tobytes()}

    @classmethod
    def from_message(cls, message: dict[str, Any]) -> "Play":
        """What `to_message` was made of."""
        return cls(**{**message, "offsets": np.frombuffer(message["offsets"])})


class Player:
    """Plays one order after the other; `take_part` is what each user does, over and over.

    good, broken: the images. on_end gets the number of a play and its log of samples.
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
        self._play = Play(0, np.empty(0), 0.0, 0)
        self._start = 0.0
        self._taken = 0  # arrivals
        self._open = 0  # arrivals taken and not answered
        self._chosen: list[int] = []
        self._log = bytearray()

    def begin(self, play: Play) -> None:
        """Start a play LEAD_S from now; the one before has ended."""
        self._play, self._taken, self._open, self._log = play, 0, 0, bytearray()
        rng = np.random.default_rng([play.seed, play.number])
        # A closed loop has no number of arrivals; it goes round this many choices.
        number = len(play.offsets) or 1000
        self._chosen = choose(self._good, self._broken, self._broken_share, number, rng)
        self._start = time.monotonic() + LEAD_S
        self._has_work.set()

    def take_part(self, ask: Callable[[int], Answer]) -> tuple[int, Answer, float, float] | None:
        """Take one arrival, send it at its time: (image, answer, latency_ms, lateness_ms).

        None when the play has no arrival left: the user waits for the next.
        """
        free_at = time.monotonic()
        with self._turn:
            self._has_work.wait()
            due = self._take()
            if due is None:
                return None
            index = self._chosen[(self._taken - 1) % len(self._chosen)]
            sleep(max(0.0, due - time.monotonic()))
        is_crowded = not self._play.closed_s and free_at > due
        sent = time.monotonic()
        if self._play.closed_s:
            due = sent
        answer = ask(index)
        latency_ms, lateness_ms = (answer.at - due) * 1e3, (sent - due) * 1e3
        self._log += RECORD.pack(
            due - self._start, latency_ms, lateness_ms, answer.outcome, index, is_crowded
        )
        self._open -= 1
        self._end_if_done()
        return index, answer, latency_ms, lateness_ms

    def _take(self) -> float | None:
        """The time of the next arrival; None, and the end of work, when there is none."""
        if self._play.closed_s:
            due = max(self._start, time.monotonic())
            is_left = due < self._start + self._play.closed_s
        else:
            is_left = self._taken < len(self._play.offsets)
            due = self._start + float(self._play.offsets[self._taken]) if is_left else 0.0
        if not is_left:
            self._has_work.clear()
            self._end_if_done()
            return None
        self._taken += 1
        self._open += 1
        return due

    def _end_if_done(self) -> None:
        if not self._has_work.is_set() and self._open == 0:
            self._on_end(self._play.number, bytes(self._log))
