"""What one server can do, from the simulation of queueing.py: its knee, and its table of loads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import simpy
from numpy.typing import NDArray

from pem_fleet.arrivals import constant, poisson
from pem_fleet.queueing import Counters, Server, Ticks
from pem_fleet.steps import Step


@dataclass(frozen=True)
class Load:
    """One server under one constant rate, after its first tenth was left out."""

    rate: float  # images a second, offered
    latencies: NDArray[np.float64]  # seconds, sorted
    counters: Counters
    pending: float  # images that wait, on average
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
    goal_s: float,
    *,
    images: int = 4000,
    overhead_s: float = 0.0,
    seed: int = 0,
) -> Load:
    """Send about so many images at a constant rate to one server and tell what happened."""
    clock = simpy.Environment()
    server = Server(clock, steps, goal_s, overhead_s)
    seconds = images / rate
    warm = seconds / 10
    waiting: list[int] = []

    def send() -> Ticks:
        random = np.random.default_rng(seed)
        for at in poisson(constant(rate), rate, seconds, random):
            yield clock.timeout(at - clock.now)
            waiting.append(server.pending)  # Poisson arrivals see time averages
            server.put()

    clock.process(send())
    clock.run(until=warm)
    server.counters = Counters()
    server.latencies.clear()
    waiting.clear()
    clock.run(until=seconds)
    pending = float(np.mean(waiting)) if waiting else 0.0
    latencies = np.sort(np.array(server.latencies))
    return Load(rate, latencies, server.counters, pending, seconds - warm)


def knee(steps: Sequence[Step], goal: Goal, *, overhead_s: float = 0.0, seed: int = 0) -> float:
    """Return the highest rate, images a second, that meets the goal; 0 when none does."""

    def is_met(rate: float) -> bool:
        # A p99 wants some thousand images.
        return goal.is_met(
            run(steps, rate, goal.seconds, images=12_000, overhead_s=overhead_s, seed=seed)
        )

    low, high = 0.0, 1.1 * min(step.most for step in steps)
    while high - low > 0.01 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if is_met(middle) else (low, middle)
    return low
