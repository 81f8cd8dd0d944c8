"""Timing several things fairly in one run: they take turns, so that what drifts meets all alike."""

import math
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Spread:
    """Seconds of one call: how many were counted, their median, first and last tenth."""

    calls: int
    median: float
    low: float
    high: float


def spread(seconds: Sequence[float]) -> Spread:
    """Of at least one time; the tenths are the nearest measured values."""
    ordered = sorted(seconds)
    last = len(ordered) - 1
    low, high = ordered[math.floor(0.1 * last)], ordered[math.ceil(0.9 * last)]
    return Spread(len(ordered), statistics.median(ordered), low, high)


def take_turns(
    calls: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    turn_seconds: float,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of each call, by name. In each round each has one turn, in a new order.

    A turn is one call that is not counted (caches and clocks are the neighbour's), then calls
    until two are counted and `turn_seconds` have gone by.
    """
    order, shuffle = list(calls), random.Random(0).shuffle
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        shuffle(order)
        for name in order:
            seconds[name] += _turn(calls[name], turn_seconds, clock)
    return seconds


def _turn(
    call: Callable[[], object], turn_seconds: float, clock: Callable[[], float]
) -> list[float]:
    call()
    counted: list[float] = []
    while len(counted) < 2 or sum(counted) < turn_seconds:
        start = clock()
        call()
        counted.append(clock() - start)
    return counted
