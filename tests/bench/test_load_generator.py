"""The load generator: what it counts and what it waits for."""

import itertools
import math
import threading
import time
from contextlib import nullcontext

import pytest

from pem_bench import load_generator
from pem_bench.load_generator import closed_loop, open_loop, percentile


def accept(answer: bytes) -> None:
    return None


def test_a_closed_loop_keeps_a_number_of_requests_in_flight() -> None:
    now, most, lock = 0, 0, threading.Lock()

    def send() -> bytes:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.01)
        with lock:
            now -= 1
        return b""

    load = closed_loop(lambda: nullcontext(send), accept, in_flight=3, requests=20)
    assert (len(load.latencies), most) == (20, 3)
    assert load.images_per_second == pytest.approx(20 / load.seconds)
    assert min(load.latencies) >= 0.01


def test_wrong_and_missing_answers_are_failures_and_no_latencies() -> None:
    numbers = itertools.count()

    def send() -> bytes:
        number = next(numbers)
        if number == 1:
            raise ConnectionError("gone")
        return b"wrong" if number == 2 else b"right"

    def check(answer: bytes) -> str | None:
        return None if answer == b"right" else "another answer"

    load = closed_loop(lambda: nullcontext(send), check, in_flight=1, requests=5)
    assert len(load.latencies) == 3
    assert load.failures == ("ConnectionError: gone", "another answer")


@pytest.mark.parametrize("most", [256, 1])
def test_an_open_loop_counts_from_the_intended_time(
    most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_generator, "MOST_IN_FLIGHT", most)
    lock = threading.Lock()

    def send() -> bytes:  # one after the other, as a server with one process
        with lock:
            time.sleep(0.05)
        return b""

    load = open_loop(lambda: nullcontext(send), accept, [0.0, 0.001, 0.002])
    first, second, third = sorted(load.latencies)
    assert first >= 0.05
    assert second >= 0.09
    assert third >= 0.14


def test_a_percentile_is_a_measured_value() -> None:
    values = [float(number) for number in (3, 1, 2, 10, 9, 8, 7, 6, 5, 4)]
    assert [percentile(values, percent) for percent in (10, 11, 50, 99)] == [1, 2, 5, 10]
    assert math.isnan(percentile([], 50))
