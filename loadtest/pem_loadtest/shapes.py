"""Shapes of load: a list of steps, and the search for the knee, which decides step by step."""

import math
from collections.abc import Generator
from typing import NamedTuple

HOURS = 24
SPIKE = "spike"


class Step(NamedTuple):
    """A time of constant load.

    rate: images a second, on average; 0 in a closed loop. is_measured: False for a warm-up.
    """

    label: str
    rate: float
    seconds: float
    is_measured: bool = True


def constant(rate: float, seconds: float) -> list[Step]:
    """One step."""
    return [Step(f"{rate:g}/s", rate, seconds)]


def soak(rate: float, seconds: float, count: int) -> list[Step]:
    """The same load for `count` steps, each evaluated for itself, so that a drift shows."""
    return [Step(f"part {number + 1}", rate, seconds) for number in range(count)]


def spike(rate: float, seconds: float, factor: float) -> list[Step]:
    """Before, during and after a sudden rise to `factor` times the rate."""
    return [
        Step("before", rate, seconds),
        Step(SPIKE, rate * factor, seconds),
        Step("after", rate, seconds),
    ]


def day(peak: float, seconds: float) -> list[Step]:
    """A day in 24 steps: a tenth of the peak at four in the night, the peak at sixteen."""
    shares = [0.55 - 0.45 * math.cos(math.tau * (hour - 4) / HOURS) for hour in range(HOURS)]
    return [Step(f"{hour:02}:00", peak * share, seconds) for hour, share in enumerate(shares)]


def search_knee(
    start: float, *, tolerance: float, lowest: float, highest: float
) -> Generator[float, bool, float | None]:
    """Find the highest rate that meets the goal: yields a rate, is sent whether it met it.

    It doubles (or halves) from `start` until one rate meets the goal and one misses it, then
    bisects until they are less than `tolerance` (a share) apart. Returns the highest rate that met
    the goal and lies below one that missed it; None if `lowest` still misses it. When `highest`
    still meets the goal, that is returned: the knee lies above.
    """
    meets, misses = None, None
    rate = start
    while meets is None or misses is None:
        if (yield rate):
            meets = rate
            if rate >= highest:
                return meets
            rate = min(2 * rate, highest)
        else:
            misses = rate
            if rate <= lowest:
                return None
            rate = max(rate / 2, lowest)
    while misses / meets > 1 + tolerance:
        rate = (meets + misses) / 2
        if (yield rate):
            meets = rate
        else:
            misses = rate
    return meets
