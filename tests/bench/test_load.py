"""The light client: what it counts, what it waits for, and the figures made of it."""

import itertools
import math
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext

import pytest

from pem_bench import load
from pem_bench.load import Answered, closed_loop, join, open_loop
from pem_bench.percentiles import evenly, ideal_latencies, percentile, poisson, slope


def right(answer: bytes) -> None:
    return None


def sleeper(seconds: float) -> Callable[[], bytes]:
    def ask() -> bytes:
        time.sleep(seconds)
        return b"answer"

    return ask


def test_a_closed_loop_sends_so_many_requests_with_so_many_in_flight() -> None:
    now, most, lock = 0, 0, threading.Lock()

    def ask() -> bytes:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.01)
        with lock:
            now -= 1
        return b""

    answered = closed_loop(lambda: nullcontext(ask), right, in_flight=3, requests=20)
    assert (len(answered.latencies), most) == (20, 3)
    assert answered.images_per_second == pytest.approx(20 / answered.seconds)
    assert min(answered.latencies) >= 0.01


def test_a_closed_loop_of_seconds_waits_for_what_is_in_flight() -> None:
    answered = closed_loop(lambda: nullcontext(sleeper(0.05)), right, in_flight=2, seconds=0.02)
    assert len(answered.latencies) == 2
    assert answered.seconds >= 0.05


@pytest.mark.parametrize("ends", [{}, {"seconds": 1.0, "requests": 1}])
def test_a_closed_loop_ends_in_one_way(ends: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="give one of them"):
        closed_loop(lambda: nullcontext(sleeper(0)), right, in_flight=1, **ends)  # type: ignore[arg-type]


def test_wrong_and_missing_answers_are_failures_and_no_latencies() -> None:
    numbers = itertools.count()

    def ask() -> bytes:
        number = next(numbers)
        if number == 1:
            raise ConnectionError("gone")
        return b"wrong" if number == 2 else b"right"

    def check(answer: bytes) -> str | None:
        return None if answer == b"right" else "an answer is wrong"

    answered = closed_loop(lambda: nullcontext(ask), check, in_flight=1, requests=5)
    assert len(answered.latencies) == 3
    assert answered.failures == ("ConnectionError: gone", "an answer is wrong")


def test_an_open_loop_counts_from_the_intended_time() -> None:
    lock = threading.Lock()

    def ask() -> bytes:  # one after the other, as a server with one process
        with lock:
            time.sleep(0.05)
        return b""

    answered = open_loop(lambda: nullcontext(ask), right, [0.0, 0.001, 0.002])
    first, second, third = sorted(answered.latencies)
    assert first >= 0.05
    assert second >= 0.09
    assert third >= 0.14


def test_an_open_loop_that_is_late_counts_from_the_intended_time_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(load, "MOST_IN_FLIGHT", 1)
    answered = open_loop(lambda: nullcontext(sleeper(0.05)), right, [0.0, 0.001, 0.002])
    assert max(answered.latencies) >= 0.14


def test_turns_join_to_one() -> None:
    both = join([Answered((1.0,), (), 2.0, 0.5), Answered((3.0,), ("no",), 2.0, 0.5)])
    assert both == Answered((1.0, 3.0), ("no",), 4.0, 1.0)
    assert both.images_per_second == 0.5
    assert both.milliseconds(99) == 3000


@pytest.mark.parametrize(
    ("percent", "value"), [(50, 5.0), (95, 10.0), (99, 10.0), (10, 1.0), (11, 2.0), (100, 10.0)]
)
def test_a_percentile_is_a_measured_value(percent: float, value: float) -> None:
    values = [float(number) for number in (3, 1, 2, 10, 9, 8, 7, 6, 5, 4)]
    assert percentile(values, percent) == value
    assert math.isnan(percentile([], percent))


def test_even_arrivals_are_a_clocks() -> None:
    assert evenly(4, 1) == [0, 0.25, 0.5, 0.75]


def test_with_poisson_arrivals_no_server_keeps_its_p99_under_three_medians() -> None:
    """At 80% of what one server can, answering in order: the M/D/1 queue."""
    latencies = ideal_latencies(poisson(0.8, 200_000), 1.0)
    assert 4.5 < percentile(latencies, 99) / percentile(latencies, 50) < 5.5


def test_poisson_arrivals_have_their_rate_and_repeat() -> None:
    offsets = poisson(50, 100)
    assert len(offsets) == pytest.approx(5000, rel=0.05)
    assert offsets == sorted(offsets)
    assert 0 < offsets[0] < offsets[-1] < 100
    assert offsets == poisson(50, 100) != poisson(50, 100, seed=1)


def test_the_ideal_server_answers_one_after_the_other() -> None:
    assert ideal_latencies([0.0, 1.0, 1.5, 9.0], 1.0) == [1.0, 1.0, 1.5, 1.0]


def test_the_slope_of_a_line() -> None:
    assert slope([0, 10, 20], [5, 6, 7]) == pytest.approx(0.1)
    assert slope([1, 1], [5, 7]) == 0 == slope([], [])
