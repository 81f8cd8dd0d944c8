"""How many images arrive: rates over time, and arrivals drawn from them. All synthetic."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

Rate = Callable[[float], float]  # seconds since the start -> images a second

DAY_S = 86_400.0
NIGHT_SHARE = 0.25  # of the peak: the least of the day curve
CROWD_FACTOR = 1.8  # a flash crowd, within CROWD_RISE_S
CROWD_RISE_S = 60.0
CROWD_S = 1_200.0
CROWDS_AT = (0.15, 0.4, 0.495, 0.8)  # of the day: in the night, on the way up, at the top, down


def constant(rate: float) -> Rate:
    """Return the same rate for ever."""
    return lambda _: rate


def day(peak: float, length_s: float = DAY_S) -> Rate:
    """Return a day that starts and ends in the night and has its peak in the middle."""
    middle, swing = peak * (1 + NIGHT_SHARE) / 2, peak * (1 - NIGHT_SHARE) / 2
    return lambda at: middle - swing * math.cos(2 * math.pi * at / length_s)


def with_crowds(rate: Rate, starts_s: Sequence[float]) -> Rate:
    """Return `rate` with flash crowds: up by CROWD_FACTOR in a minute, gone 20 minutes later."""

    def raised(at: float) -> float:
        since = [at - start for start in starts_s if 0 <= at - start < CROWD_S]
        risen = max((min(s, CROWD_S - s) / CROWD_RISE_S for s in since), default=0.0)
        return rate(at) * (1 + (CROWD_FACTOR - 1) * min(risen, 1.0))

    return raised


def stairs(steps: Sequence[tuple[float, float]]) -> Rate:
    """Return a rate in steps, each (seconds it lasts, images a second); the last one stays."""
    ends = np.cumsum([seconds for seconds, _ in steps])

    def step(at: float) -> float:
        return steps[min(int(np.searchsorted(ends, at, side="right")), len(steps) - 1)][1]

    return step


def poisson(
    rate: Rate, peak: float, until_s: float, random: np.random.Generator
) -> Iterator[float]:
    """Yield the times of Poisson arrivals whose rate is nowhere above `peak`, by thinning."""
    at = random.exponential(1 / peak)
    while at < until_s:
        if random.random() * peak < rate(at):
            yield at
        at += random.exponential(1 / peak)
