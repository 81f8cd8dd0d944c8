"""The search for the knee, on systems whose knee is known."""

import pytest

from pem_loadtest.shapes import search_knee


def run(highest: float, tolerance: float, knee: float) -> tuple[float | None, list[float]]:
    """(what the search returns, the rates that it tried) for a system with this knee."""
    search = search_knee(10.0, tolerance=tolerance, lowest=1.0, highest=highest)
    tried = [next(search)]
    try:
        while True:
            tried.append(search.send(tried[-1] <= knee))
    except StopIteration as end:
        return end.value, tried


@pytest.mark.parametrize("knee", [3.0, 9.99, 10.0, 73.1, 640.0])
@pytest.mark.parametrize("tolerance", [0.02, 0.2])
def test_the_knee_is_found_within_the_tolerance(knee: float, tolerance: float) -> None:
    found, tried = run(1000.0, tolerance, knee)
    assert found is not None
    assert knee / (1 + tolerance) <= found <= knee
    assert found in tried, "a rate that nobody tried is no measurement"
    assert len(tried) < 20


def test_the_search_ends_at_the_lowest_and_at_the_highest_rate() -> None:
    assert run(50.0, 0.05, knee=0.0) == (None, [10.0, 5.0, 2.5, 1.25, 1.0])
    assert run(50.0, 0.05, knee=99.0) == (50.0, [10.0, 20.0, 40.0, 50.0])
