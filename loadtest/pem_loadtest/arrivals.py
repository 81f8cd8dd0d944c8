"""Arrival times: seconds from the start of a schedule, in ascending order. NumPy only."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Offsets = NDArray[np.float64]  # (N,) seconds
Seed = int | Sequence[int] | np.random.Generator


def poisson(rate: float, seconds: float, seed: Seed) -> Offsets:
    """Poisson arrivals, as of many independent clients: on average `rate` a second."""
    rng = np.random.default_rng(seed)  # a generator passes through
    # Given their number, the arrivals of a Poisson process are independent and uniform.
    return np.sort(rng.uniform(0.0, seconds, rng.poisson(rate * seconds)))


def poisson_steps(steps: Sequence[tuple[float, float]], seed: Seed) -> Offsets:
    """Poisson arrivals of (rate, seconds) steps, one after the other without a gap."""
    rng = np.random.default_rng(seed)
    starts = np.cumsum([0.0, *(seconds for _, seconds in steps)])
    parts = [
        start + poisson(rate, seconds, rng)
        for start, (rate, seconds) in zip(starts, steps, strict=False)
    ]
    return np.concatenate([np.empty(0), *parts])


def read_timestamps(file: Path, speed: float = 1.0) -> Offsets:
    """The arrivals of a recording: one number of seconds a line, from any origin, in any order.

    speed: 2 replays it in half the time. Empty lines and comments (#) are skipped. Raises
    ValueError, with the line number, for anything else.
    """
    numbers = []
    for place, line in enumerate(file.read_text().splitlines(), start=1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        try:
            numbers.append(float(text))
        except ValueError:
            raise ValueError(
                f"{file}, line {place}: expected a number of seconds, got {text!r}"
            ) from None
    if not numbers or not np.isfinite(numbers).all():
        raise ValueError(f"{file} must contain at least one finite number of seconds, one per line")
    offsets = np.sort(np.array(numbers))
    since_first: Offsets = (offsets - offsets[0]) / speed
    return since_first


def shard(offsets: Offsets, worker: int, workers: int) -> Offsets:
    """The arrivals that one of several processes sends: every n-th, so together they send all."""
    return offsets[worker::workers]
