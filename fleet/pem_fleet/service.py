"""The servers of a fleet together, in two forms with one face: every image, or flows.

`EveryImage` follows each image through queueing.py: exact, for some hundred images a second.
`Flow` takes one second at a time: what arrives, what the ready servers can answer at most, what
piles up; latencies come from a table that queueing.py made for one server, plus the time the pile
takes. It holds while a server's own queues settle faster than the load changes (its queue turns
over in less than a second here, loads change over a minute) and treats a fleet as equal servers
behind a perfect balancer. tests/fleet compares both forms on one load.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import simpy

from pem_fleet import capacity
from pem_fleet.arrivals import Rate, poisson
from pem_fleet.capacity import Load
from pem_fleet.queueing import Counters, Server, Ticks
from pem_fleet.steps import Step

STEP_S = 1.0  # of a flow
GRID = (0.02, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9)  # of what the narrowest step can
OVER = (0.97, 1.0, 1.05, 1.1, 1.25, 1.5, 2.0, 3.0)  # the same, overloaded


class Service(Protocol):
    """What the autoscaling loop needs of the servers."""

    @property
    def ready(self) -> int:
        """Servers that take images."""

    @property
    def pending(self) -> float:
        """Images that wait in any step of any server."""

    def resize(self, count: int) -> None:
        """From now on so many servers take images; those removed finish what they have."""

    def counters(self) -> Counters:
        """Since the start, over all servers there ever were."""


class EveryImage:
    """Each image on its own, to one server after the other, as HAProxy sends them."""

    def __init__(
        self,
        clock: simpy.Environment,
        steps: Sequence[Step],
        goal_s: float,
        rate: Rate,
        peak: float,
        until_s: float,
        *,
        overhead_s: float = 0.0,
        seed: int = 0,
    ) -> None:
        self._clock, self._steps, self._goal_s = clock, steps, goal_s
        self._overhead_s = overhead_s
        self._serving: list[Server] = []
        self._leaving: list[Server] = []
        self._turn = 0
        self._turned_away = Counters()
        clock.process(self._send(rate, peak, until_s, np.random.default_rng(seed)))

    def _send(self, rate: Rate, peak: float, until_s: float, random: np.random.Generator) -> Ticks:
        for at in poisson(rate, peak, until_s, random):
            yield self._clock.timeout(at - self._clock.now)
            if self._serving:
                self._turn = (self._turn + 1) % len(self._serving)
                self._serving[self._turn].put()
            else:
                self._turned_away.add(Counters(offered=1, refused=1, missed=1))

    @property
    def ready(self) -> int:
        return len(self._serving)

    @property
    def pending(self) -> float:
        return sum(server.pending for server in self._serving + self._leaving)

    def resize(self, count: int) -> None:
        while len(self._serving) < count:
            self._serving.append(Server(self._clock, self._steps, self._goal_s, self._overhead_s))
        while len(self._serving) > count:
            self._leaving.append(self._serving.pop())

    def counters(self) -> Counters:
        total = Counters()
        for server in self._serving + self._leaving:
            total.add(server.counters)
        total.add(self._turned_away)
        return total


class Means(NamedTuple):
    """Averages at one rate; times in seconds."""

    queue_s: float  # an image, before the network
    compute_s: float  # an image, of its whole batch
    batch: float  # images
    busy_s: float  # a batch
    pending: float  # images that wait in a server


class Table:
    """One server under many constant loads, made once; a flow looks latencies up in it."""

    def __init__(self, steps: Sequence[Step], goal_s: float, seed: int = 0) -> None:
        self.goal_s = goal_s
        narrowest = min(step.most for step in steps)
        runs = [capacity.run(steps, share * narrowest, goal_s, seed=seed) for share in GRID + OVER]
        self.most = max(run.throughput for run in runs)  # images a second
        self.room = _room(steps, self.most)
        # Where the first step refuses, Triton counts as accepted only what it went on with.
        self.first_refuses = bool(steps[0].queue_limit)
        self.first_most = steps[0].most
        self._over = [(run.rate, run.throughput) for run in runs[len(GRID) - 1 :]]
        runs = runs[: len(GRID)]
        self._rates = [run.rate for run in runs]
        self._late = [_latencies(run) for run in runs]
        self._seen = [_means(run) for run in runs]

    def answered_when_full(self, rate: float) -> float:
        """Images a second that one server with full queues answers when so many are offered.

        Fewer than `most`: what is refused does not wake Triton, so its processes stand idle.
        """
        rates, answered = zip(*self._over, strict=True)
        return min(rate, float(np.interp(rate, rates, answered)))

    def missed(self, rate: float, wait_s: float) -> float:
        """Share of images later than the goal, at this rate a server and behind such a pile."""
        low, high, weight = self._between(rate)
        goal = self.goal_s - wait_s
        shares = [
            1 - bisect.bisect_right(late, goal) / len(late)
            for late in (self._late[low], self._late[high])
        ]
        return shares[0] + weight * (shares[1] - shares[0])

    def means(self, rate: float) -> Means:
        """What one server shows at this rate."""
        low, high, weight = self._between(rate)
        one, other = self._seen[low], self._seen[high]
        return Means(*(a + weight * (b - a) for a, b in zip(one, other, strict=True)))

    def _between(self, rate: float) -> tuple[int, int, float]:
        high = min(bisect.bisect_left(self._rates, rate), len(self._rates) - 1)
        low = max(high - 1, 0)
        width = self._rates[high] - self._rates[low]
        return low, high, min((rate - self._rates[low]) / width, 1.0) if width else 0.0


class Flow:
    """All images of a second at once."""

    def __init__(
        self, clock: simpy.Environment, table: Table, rate: Rate, until_s: float, seed: int = 0
    ) -> None:
        self._clock, self._table, self._rate = clock, table, rate
        self._random = np.random.default_rng(seed)
        self._count = 0
        self._pile = 0.0
        self._waiting = 0.0  # in the servers' ordinary queues
        self._counters = Counters()
        clock.process(self._flow(until_s))

    @property
    def ready(self) -> int:
        return self._count

    @property
    def pending(self) -> float:
        return self._pile + self._waiting

    def resize(self, count: int) -> None:
        self._count = count

    def counters(self) -> Counters:
        total = Counters()
        total.add(self._counters)
        return total

    def _flow(self, until_s: float) -> Ticks:
        while self._clock.now < until_s:
            self._advance(int(self._random.poisson(self._rate(self._clock.now) * STEP_S)))
            yield self._clock.timeout(STEP_S)

    def _advance(self, offered: int) -> None:
        table, count = self._table, self._count
        is_full = self._pile > 0.95 * count * table.room
        each = offered / count / STEP_S if count else 0.0
        possible = count * STEP_S * (table.answered_when_full(each) if is_full else table.most)
        answered = min(self._pile + offered, possible)
        left = self._pile + offered - answered
        self._pile = min(left, count * table.room)
        refused = left - self._pile
        wait_s = self._pile / possible * STEP_S if possible else 0.0
        each = answered / count / STEP_S if count else 0.0
        means = table.means(each)
        self._waiting = means.pending * count
        batches = answered / means.batch
        first = count * table.first_most * STEP_S
        self._counters.add(
            Counters(
                offered=offered,
                accepted=answered if table.first_refuses else min(offered, first),
                answered=answered,
                refused=refused,
                missed=refused + answered * table.missed(each, wait_s),
                queue_s=answered * (means.queue_s + wait_s),
                compute_s=answered * means.compute_s,
                batches=batches,
                batched=answered,
                busy_s=batches * means.busy_s,
            )
        )


def _room(steps: Sequence[Step], most: float) -> float:
    """Images that pile up in one server before it refuses; a time limit bounds them too."""
    limits = [step.queue_limit for step in steps if step.queue_limit]
    limits += [step.waiting_limit for step in steps if step.waiting_limit]
    limits += [round(step.timeout_s * most) for step in steps if step.timeout_s]
    return min(limits, default=10**9)


def _latencies(load: Load) -> list[float]:
    return [float(seconds) for seconds in load.latencies]


def _means(load: Load) -> Means:
    seen = load.counters
    images, batches = max(seen.batched, 1), max(seen.batches, 1)
    return Means(
        seen.queue_s / images,
        seen.compute_s / images,
        images / batches,
        seen.busy_s / batches,
        load.pending,
    )
