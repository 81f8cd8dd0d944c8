"""Who sends when, with a pool of users: greenlets without locust and without a server."""

import time
from collections.abc import Callable

import gevent
import numpy as np
import pytest

from pem_loadtest.asking import Answer
from pem_loadtest.images import EncodedImage
from pem_loadtest.player import Play, Player
from pem_loadtest.samples import Outcome, Samples, read_samples

GOOD = [EncodedImage(f"good {number}", b"", 8, 8) for number in range(5)]
BROKEN = [EncodedImage("broken", b"", 0, 0)]


def play(
    offsets: list[float],
    users: int,
    answer_s: Callable[[], float] = lambda: 0.0,
    closed_s: float = 0.0,
    broken: float = 0.0,
) -> Samples:
    """What a player with so many users writes down, where an answer takes `answer_s()`."""
    ended: list[tuple[int, bytes]] = []
    player = Player(GOOD, BROKEN, broken, lambda number, log: ended.append((number, log)))

    def ask(_: int) -> Answer:
        gevent.sleep(answer_s())
        return Answer(Outcome.ANSWERED, time.monotonic())

    def user() -> None:
        while True:
            player.take_part(ask)

    pool = [gevent.spawn(user) for _ in range(users)]
    player.begin(Play.from_message(Play(4, np.array(offsets), closed_s, 1).to_message()))
    with gevent.Timeout(20):
        while not ended:
            gevent.sleep(0.01)
    gevent.sleep(0.05)
    gevent.killall(pool)
    [(number, log)] = ended  # told once
    assert number == 4
    return read_samples(log)


def test_every_arrival_is_sent_once_at_its_time() -> None:
    offsets = [0.0, 0.05, 0.05, 0.2]
    samples = np.sort(play(offsets, users=3), order="due_s")
    np.testing.assert_allclose(samples["due_s"], offsets, atol=1e-9)
    assert (samples["lateness_ms"] >= 0).all()
    assert not samples["is_crowded"].any()


def test_a_slow_answer_delays_no_other_image_while_users_are_free() -> None:
    slow = iter([0.4, 0.0, 0.0, 0.0])
    samples = play([0.0, 0.1, 0.15, 0.2], users=2, answer_s=lambda: next(slow))
    latencies = samples[np.argsort(samples["due_s"])]["latency_ms"]
    assert latencies[0] >= 400
    assert not samples["is_crowded"].any()
    # The slow answer ends after the others were due: in a closed loop they would have waited.
    assert (latencies[1:] < 200).all()


def test_without_a_free_user_latency_counts_from_the_intended_time_and_it_is_told() -> None:
    samples = play([0.0, 0.1], users=1, answer_s=lambda: 0.5)
    samples = samples[np.argsort(samples["due_s"])]
    assert samples["is_crowded"].tolist() == [False, True]
    assert samples["lateness_ms"][1] >= 390
    assert samples["latency_ms"][1] >= 890


def test_in_a_closed_loop_each_user_sends_when_it_has_its_answer() -> None:
    samples = play([], users=2, answer_s=lambda: 0.1, closed_s=0.45)
    assert 4 <= len(samples) <= 10  # never more than two at a time
    assert (samples["lateness_ms"] == 0).all()
    assert not samples["is_crowded"].any()


@pytest.mark.parametrize(("share", "fewest", "most"), [(0.0, 0, 0), (0.5, 50, 150)])
def test_a_share_of_the_images_is_broken(share: float, fewest: int, most: int) -> None:
    samples = play([0.0] * 200, users=4, broken=share)
    assert fewest <= (samples["image"] >= len(GOOD)).sum() <= most
    assert set(samples["image"]) >= set(range(len(GOOD)))


def test_a_process_without_a_share_ends_at_once() -> None:
    assert len(play([], users=2)) == 0
