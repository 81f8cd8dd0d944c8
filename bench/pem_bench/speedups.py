"""Timing calls fairly in one run, and each time beside the naive graph's and this machine's peak.

Calls take turns, so that drift affects all alike.
"""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

SPEEDUP_GOAL = 3.0  # times the naive graph's speed, for the backend that is served


@dataclass(frozen=True)
class Result:
    """One backend at one batch size; times are those of a call, which answers the batch.

    `times_naive`: its speed as a multiple of the naive graph's. `share_of_peak`: the arithmetic
    of the served graph in its time, as a share of what the machine multiplies at most in its
    precision. None where there is nothing to compare with.
    """

    backend: str
    batch: int
    calls: int
    median_ms: float
    low_ms: float  # first tenth
    high_ms: float  # last tenth
    images_per_second: float
    times_naive: float | None = None
    share_of_peak: float | None = None


def result_of(backend: str, batch: int, seconds: Sequence[float]) -> Result:
    """Of at least one time; the tenths are measured values."""
    milliseconds = 1000 * np.array(seconds)
    median = float(np.median(milliseconds))
    low = float(np.percentile(milliseconds, 10, method="lower"))
    high = float(np.percentile(milliseconds, 90, method="higher"))
    return Result(backend, batch, len(seconds), median, low, high, 1000 * batch / median)


def speedups(
    results: Sequence[Result], naive: str, flop: float, peaks: Mapping[str, float]
) -> list[Result]:
    """`results` with their comparisons. `flop` is of the served graph for one image."""
    naive_speed = {r.batch: r.images_per_second for r in results if r.backend == naive}
    compared = []
    for result in results:
        times = share = None
        if result.backend != naive and result.batch in naive_speed:
            times = result.images_per_second / naive_speed[result.batch]
        if result.backend in peaks:
            share = result.images_per_second * flop / peaks[result.backend]
        compared.append(replace(result, times_naive=times, share_of_peak=share))
    return compared


def interleaved(
    calls: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    turn_seconds: float,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of each call, by name. In each round each has one turn, in a new order.

    A turn is one uncounted call (caches and clocks are the predecessor's), then calls until two
    are counted and `turn_seconds` have passed.
    """
    order, shuffle = list(calls), random.Random(0).shuffle
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        shuffle(order)
        for name in order:
            calls[name]()
            counted: list[float] = []
            while len(counted) < 2 or sum(counted) < turn_seconds:
                start = clock()
                calls[name]()
                counted.append(clock() - start)
            seconds[name] += counted
    return seconds
