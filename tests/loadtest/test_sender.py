"""Who sends when, with a pool of users: greenlets on a fake clock, no locust and no server."""

import heapq
import itertools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import gevent
import numpy as np
import pytest
from gevent.event import Event

from pem_loadtest import sender as module
from pem_loadtest.image_requests import Answer
from pem_loadtest.images import EncodedImage
from pem_loadtest.samples import Outcome, Samples, read_samples
from pem_loadtest.sender import Schedule, Sender

GOOD = [EncodedImage(f"good {number}", b"", 8, 8) for number in range(5)]
BROKEN = [EncodedImage("broken", b"", 0, 0)]
Send = Callable[..., Samples]


class FakeClock:
    """Time that passes only when every greenlet sleeps."""

    def __init__(self) -> None:
        self.now = 100.0
        self._sleeping: list[tuple[float, int, Event]] = []
        self._number = itertools.count()

    def sleep(self, seconds: float) -> None:
        """In the place of gevent's."""
        event = Event()
        heapq.heappush(self._sleeping, (self.now + seconds, next(self._number), event))
        event.wait()

    def run(self) -> None:
        """Wake the sleepers one after the other until none is left."""
        gevent.idle()
        while self._sleeping:
            self.now, _, event = heapq.heappop(self._sleeping)
            event.set()
            gevent.idle()


@pytest.fixture
def send(monkeypatch: pytest.MonkeyPatch) -> Send:
    """What a sender records, with this many users and answers that take `answer_s()`."""
    clock = FakeClock()
    monkeypatch.setattr(module, "sleep", clock.sleep)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock.now))

    def run(
        offsets: list[float],
        users: int,
        answer_s: Callable[[], float] = lambda: 0.0,
        broken: float = 0.0,
        closed_s: float = 0.0,
    ) -> Samples:
        ended: list[tuple[int, bytes]] = []
        sender = Sender(GOOD, BROKEN, broken, lambda number, log: ended.append((number, log)))

        def request(_: int) -> Answer:
            clock.sleep(answer_s())
            return Answer(Outcome.ANSWERED, clock.now)

        def user() -> Any:
            while True:
                sender.send_next(request)

        pool = [gevent.spawn(user) for _ in range(users)]
        gevent.idle()
        schedule = Schedule(4, np.array(offsets), closed_s, 1)
        sender.begin(Schedule.from_message(schedule.to_message()))
        clock.run()
        gevent.killall(pool)
        [(number, log)] = ended  # reported once
        assert number == 4
        return np.sort(read_samples(log), order="due_s")

    return run


def test_a_slow_answer_delays_no_other_image_while_users_are_free(send: Send) -> None:
    slow = iter([0.4, 0.0, 0.0, 0.0])
    samples = send([0.0, 0.1, 0.1, 0.2], users=3, answer_s=lambda: next(slow))
    np.testing.assert_allclose(samples["due_s"], [0.0, 0.1, 0.1, 0.2], atol=1e-9)  # each once
    np.testing.assert_allclose(samples["lateness_ms"], 0, atol=1e-6)
    np.testing.assert_allclose(samples["latency_ms"], [400, 0, 0, 0], atol=1e-6)
    assert not samples["is_pool_exhausted"].any()


def test_without_a_free_user_latency_counts_from_the_planned_time(send: Send) -> None:
    samples = send([0.0, 0.1], users=1, answer_s=lambda: 0.5)
    assert samples["is_pool_exhausted"].tolist() == [False, True]
    assert samples["lateness_ms"][1] == pytest.approx(400)
    assert samples["latency_ms"][1] == pytest.approx(900)


def test_in_a_closed_loop_each_user_sends_when_it_has_its_answer(send: Send) -> None:
    samples = send([], users=2, answer_s=lambda: 0.1, closed_s=0.45)
    np.testing.assert_allclose(samples["due_s"], np.repeat(np.arange(5) / 10, 2), atol=1e-9)
    np.testing.assert_allclose(samples["latency_ms"], 100)
    assert not samples["is_pool_exhausted"].any()


def test_a_share_of_the_images_is_broken(send: Send) -> None:
    samples = send([0.0] * 200, users=4, broken=0.5)
    assert set(samples["image"]) == set(range(len(GOOD) + len(BROKEN)))


def test_a_process_without_a_shard_ends_at_once(send: Send) -> None:
    assert len(send([], users=2)) == 0
