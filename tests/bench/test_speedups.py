"""Calls that take turns, on a clock that the test sets, and the comparisons of their times."""

import pytest

from pem_bench.backends import NAIVE
from pem_bench.speedups import interleaved, result_of, speedups


def test_each_has_a_turn_in_each_round_and_the_first_call_is_not_counted() -> None:
    now, calls = 0.0, []

    def work(name: str, seconds: float) -> None:
        nonlocal now
        calls.append(name)
        now += seconds

    both = {"fast": lambda: work("fast", 0.25), "slow": lambda: work("slow", 3.0)}
    seconds = interleaved(both, rounds=4, turn_seconds=1.0, clock=lambda: now)
    assert seconds == {"fast": [0.25] * 16, "slow": [3.0] * 8}
    assert (calls.count("fast"), calls.count("slow")) == (4 * 5, 4 * 3)
    turns = [name for before, name in zip([None, *calls], calls, strict=False) if name != before]
    assert len(turns) > 3  # they alternate; two turns of one may meet where rounds do


def test_a_result_is_the_median_and_the_tenths() -> None:
    found = result_of("B", 4, [float(number) for number in range(21)])
    assert (found.calls, found.images_per_second) == (21, 0.4)
    assert (found.median_ms, found.low_ms, found.high_ms) == (10_000, 2_000, 18_000)
    single = result_of("B", 1, [2.0])
    assert single.low_ms == single.median_ms == single.high_ms == 2_000


def test_a_backend_is_compared_at_its_own_batch() -> None:
    seconds = {
        (NAIVE, 1): 0.4, (NAIVE, 2): 1.0, ("Other", 1): 0.8,
        ("Served", 1): 0.1, ("Served", 2): 0.2, ("Served", 4): 0.4,
    }  # fmt: skip
    results = [result_of(name, batch, [time]) for (name, batch), time in seconds.items()]
    found = speedups(results, NAIVE, 2e9, {"Served": 40e9})
    rows = [(r.backend, r.batch, r.times_naive, r.share_of_peak) for r in found]
    half = pytest.approx(0.5)
    assert rows == [
        (NAIVE, 1, None, None), (NAIVE, 2, None, None), ("Other", 1, half, None),
        ("Served", 1, pytest.approx(4), half), ("Served", 2, pytest.approx(5), half),
        ("Served", 4, None, half),
    ]  # fmt: skip
