"""When images are sent: seconds from the start of a play, in rising order."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Offsets = NDArray[np.float64]  # (N,) seconds


def poisson(rate: float, seconds: float, rng: np.random.Generator) -> Offsets:
    """Arrivals of many independent people: on average `rate` a second, for `seconds`."""
    # Given their number, the arrivals of a Poisson process are independent and uniform.
    return np.sort(rng.uniform(0.0, seconds, rng.poisson(rate * seconds)))


def poisson_steps(steps: Sequence[tuple[float, float]], rng: np.random.Generator) -> Offsets:
    """Poisson arrivals of (rate, seconds) steps, one after the other without a gap."""
    starts = np.cumsum([0.0, *(seconds for _, seconds in steps)])
    parts = [
        start + poisson(rate, seconds, rng)
        for start, (rate, seconds) in zip(starts, steps, strict=False)
    ]
    return np.concatenate([np.empty(0), *parts])


def read_timestamps(file: Path, speed: float = 1.0) -> Offsets:
    """The arrivals of a recording: one number of seconds a line, from any origin, in any order.

    speed: 2 plays it in half the time. Empty lines and those with # are skipped. ValueError, with
    the line, where something else stands.
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
                f"{file}, line {place}: seconds must stand here, not {text!r}"
            ) from None
    if not numbers or not np.isfinite(numbers).all():
        raise ValueError(f"{file} must hold at least one finite number of seconds, one a line")
    offsets = np.sort(np.array(numbers))
    since_first: Offsets = (offsets - offsets[0]) / speed
    return since_first


def share(offsets: Offsets, worker: int, workers: int) -> Offsets:
    """What one of several processes sends: every n-th arrival, so that together they send all."""
    return offsets[worker::workers]
