"""Taking turns, on a clock that the test winds."""

import pytest

from pem_bench.timing import spread, take_turns


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_each_has_a_turn_in_each_round_and_the_first_call_is_not_counted() -> None:
    clock, log = Clock(), []

    def work(name: str, seconds: float) -> None:
        log.append(name)
        clock.now += seconds

    seconds = take_turns(
        {"fast": lambda: work("fast", 0.25), "slow": lambda: work("slow", 3.0)},
        rounds=4,
        turn_seconds=1.0,
        clock=clock,
    )
    assert seconds == {"fast": [0.25] * 16, "slow": [3.0] * 8}
    assert (log.count("fast"), log.count("slow")) == (4 * 5, 4 * 3)
    turns = [name for before, name in zip([None, *log], log, strict=False) if name != before]
    assert len(turns) > 3  # they alternate; two turns of one may meet where rounds do


def test_nothing_to_time_is_no_time() -> None:
    assert take_turns({}, rounds=3, turn_seconds=0) == {}


@pytest.mark.parametrize(
    ("times", "median", "low", "high"),
    [
        ([2.0], 2.0, 2.0, 2.0),
        ([3.0, 1.0], 2.0, 1.0, 3.0),
        ([float(n) for n in range(21)], 10.0, 2.0, 18.0),
        ([1.0] * 20 + [99.0], 1.0, 1.0, 1.0),
    ],
    ids=["one", "two", "many", "an outlier"],
)
def test_the_spread_is_the_median_and_the_tenths(
    times: list[float], median: float, low: float, high: float
) -> None:
    found = spread(times)
    assert (found.calls, found.median, found.low, found.high) == (len(times), median, low, high)
