"""Percentiles that are measured values, and the queue that a perfect server would have."""

import math
import random
from collections.abc import Sequence


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` of all do not exceed; nan of none."""
    if not values:
        return math.nan
    rank = max(1, math.ceil(len(values) * percent / 100 - 1e-9))
    return sorted(values)[rank - 1]


def poisson(rate: float, seconds: float, seed: int = 0) -> list[float]:
    """Arrivals of many independent people: on average `rate` a second, for `seconds`."""
    generator, offsets, now = random.Random(seed), list[float](), 0.0
    while (now := now + generator.expovariate(rate)) < seconds:
        offsets.append(now)
    return offsets


def evenly(rate: float, seconds: float) -> list[float]:
    """Arrivals of a clock: `rate` a second, for `seconds`."""
    return [number / rate for number in range(max(1, round(rate * seconds)))]


def ideal_latencies(offsets: Sequence[float], service: float) -> list[float]:
    """What the same arrivals would wait at one server that takes `service` seconds for each.

    No jitter and nothing else to do: no server of that capacity that answers one after the other
    does better.
    """
    free, latencies = 0.0, []
    for offset in offsets:
        free = max(free, offset) + service
        latencies.append(free - offset)
    return latencies


def slope(places: Sequence[float], values: Sequence[float]) -> float:
    """By least squares, how much `values` rise for one of `places`; 0 where there is no line."""
    middle = sum(places) / max(1, len(places))
    spread = sum((place - middle) ** 2 for place in places)
    if not spread:
        return 0.0
    pairs = zip(places, values, strict=True)
    return sum((place - middle) * value for place, value in pairs) / spread
