"""What one server can take, by simulation: one load, and the highest rate that meets a goal."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pem_fleet.queueing.served_steps import Step
from pem_fleet.queueing.server_model import Clock, Counters, Server
from pem_loadtest.arrivals import poisson


@dataclass(frozen=True)
class Load:
    """One server under one constant rate, after its first tenth was left out."""

    rate: float  # images a second, offered
    latencies: NDArray[np.float64]  # seconds, sorted
    counters: Counters
    seconds: float

    def quantile(self, share: float) -> float:
        """Seconds within which this share of the answers came; infinite without answers."""
        return float(np.quantile(self.latencies, share)) if len(self.latencies) else float("inf")

    @property
    def loss(self) -> float:
        """Share of images that were refused."""
        return self.counters.refused / max(self.counters.offered, 1)

    @property
    def throughput(self) -> float:
        """Images a second, answered."""
        return self.counters.answered / self.seconds


@dataclass(frozen=True)
class Goal:
    """Met when this share of images is answered within so many seconds and few are refused."""

    seconds: float
    share: float = 0.99
    loss: float = 0.001

    def is_met(self, load: Load) -> bool:
        """Whether this load meets it."""
        return load.quantile(self.share) <= self.seconds and load.loss <= self.loss


def run(
    steps: Sequence[Step],
    rate: float,
    *,
    images: int = 4000,
    overhead_s: float = 0.0,
    seed: int = 0,
) -> Load:
    """Send about this many images at a constant rate to one server."""
    clock = Clock()
    server = Server(clock, steps, overhead_s)
    seconds = images / rate
    warm_up = seconds / 10
    for at in poisson(rate, seconds, seed):
        clock.after(float(at), server.put)
    clock.run(until=warm_up)
    server.counters = Counters()
    server.latencies.clear()
    clock.run(until=seconds)
    return Load(rate, np.sort(np.array(server.latencies)), server.counters, seconds - warm_up)


def find_knee(
    steps: Sequence[Step], goal: Goal, *, overhead_s: float = 0.0, seed: int = 0
) -> float:
    """The highest rate, images a second, that meets the goal; 0 when none does."""

    def is_met(rate: float) -> bool:
        # A p99 wants some thousand images.
        return goal.is_met(run(steps, rate, images=12_000, overhead_s=overhead_s, seed=seed))

    low, high = 0.0, 1.1 * min(step.most for step in steps)
    lowest = high / 1000  # below it, the goal is out of reach
    while high - low > 0.01 * high and high > lowest:
        middle = (low + high) / 2
        low, high = (middle, high) if is_met(middle) else (low, middle)
    return low
