"""The search for the knee, on systems whose knee is known."""

from collections.abc import Callable, Generator

import numpy as np
import pytest

from pem_loadtest.shapes import search_knee


def run(
    search: Generator[float, bool, float | None], meets: Callable[[float], bool]
) -> tuple[float | None, list[float]]:
    """(what the search returns, the rates that it tried) for a system that meets a goal or not."""
    tried = [next(search)]
    try:
        while True:
            tried.append(search.send(meets(tried[-1])))
    except StopIteration as end:
        return end.value, tried


@pytest.mark.parametrize("knee", [3.0, 9.99, 10.0, 73.1, 640.0])
@pytest.mark.parametrize("tolerance", [0.02, 0.2])
def test_the_knee_is_found_within_the_tolerance(knee: float, tolerance: float) -> None:
    search = search_knee(10.0, tolerance=tolerance, lowest=1.0, highest=1000.0)
    found, tried = run(search, lambda rate: rate <= knee)
    assert found is not None
    assert knee / (1 + tolerance) <= found <= knee
    assert found in tried, "a rate that nobody tried is no measurement"
    assert len(tried) < 20


def test_the_search_ends_at_the_lowest_and_at_the_highest_rate() -> None:
    search = search_knee(10.0, tolerance=0.05, lowest=1.0, highest=50.0)
    assert run(search, lambda _: False) == (None, [10.0, 5.0, 2.5, 1.25, 1.0])
    search = search_knee(10.0, tolerance=0.05, lowest=1.0, highest=50.0)
    assert run(search, lambda _: True) == (50.0, [10.0, 20.0, 40.0, 50.0])


def test_a_queue_has_its_knee_where_theory_puts_it() -> None:
    """One server, 20 ms exponential service: p99 of the time in it is ln(100) / (50 - rate)."""
    rng = np.random.default_rng(7)

    def meets(rate: float) -> bool:
        arrivals = np.cumsum(rng.exponential(1 / rate, 100_000))
        service = rng.exponential(0.02, arrivals.size)
        # Each leaves a service time after the later of its arrival and its predecessor's leaving.
        done = np.cumsum(service)
        left = done + np.maximum.accumulate(arrivals - np.concatenate([[0.0], done[:-1]]))
        return bool(np.percentile(left - arrivals, 99) <= 0.3)

    found, _ = run(search_knee(5.0, tolerance=0.02, lowest=1.0, highest=100.0), meets)
    assert found == pytest.approx(50 - np.log(100) / 0.3, rel=0.06)  # 34.65
