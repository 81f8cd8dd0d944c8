"""The load generator: what it counts and what it waits for."""

import itertools
import math
import threading
import time
from contextlib import nullcontext

import pytest

from pem_bench import load_generator
from pem_bench.load_generator import closed_loop, open_loop, percentile


def test_a_closed_loop_keeps_a_number_of_requests_in_flight() -> None:
    slots, together = threading.Semaphore(3), threading.Barrier(3)

    def send() -> bytes:
        assert slots.acquire(blocking=False)  # a fourth one would fail
        together.wait()  # two would wait forever
        slots.release()
        return b""

    load = closed_loop(lambda: nullcontext(send), lambda answer: None, in_flight=3, requests=21)
    assert (len(load.latencies), load.failures) == (21, ())
    assert load.images_per_second == pytest.approx(21 / load.seconds)


def test_wrong_and_missing_answers_are_failures_and_no_latencies() -> None:
    numbers = itertools.count()

    def send() -> bytes:
        number = next(numbers)
        if number == 1:
            raise ConnectionError("gone")
        return b"another answer" if number == 2 else b""

    def check(answer: bytes) -> str | None:
        return answer.decode() or None

    load = closed_loop(lambda: nullcontext(send), check, in_flight=1, requests=5)
    assert len(load.latencies) == 3
    assert load.failures == ("ConnectionError: gone", "another answer")


@pytest.mark.parametrize("most", [256, 1])
def test_an_open_loop_counts_from_due_times(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_generator, "MOST_IN_FLIGHT", most)
    lock = threading.Lock()

    def send() -> bytes:  # one after the other, as a server with one process
        with lock:
            time.sleep(0.05)
        return b""

    load = open_loop(lambda: nullcontext(send), lambda answer: None, [0.0, 0.001, 0.002])
    least = zip(sorted(load.latencies), (0.05, 0.09, 0.14), strict=True)
    assert all(latency >= seconds for latency, seconds in least)


def test_a_percentile_is_a_measured_value() -> None:
    values = [float(number) for number in (3, 1, 2, 10, 9, 8, 7, 6, 5, 4)]
    assert [percentile(values, percent) for percent in (10, 11, 50, 99)] == [1, 2, 5, 10]
    assert math.isnan(percentile([], 50))
