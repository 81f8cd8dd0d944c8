"""The loop around the servers on SimPy's clock: scrape, decide, order machines, load engines.

The decision is autoscaler.py, the very code that the test with real servers runs. Delays: a scrape
every 5 s, rates over the signal's window, a decision every 15 s; a new server waits for a machine,
unless a warm one stands by, then loads its engine. A machine is paid for from its order until ten
minutes after its last use.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import simpy

from pem_fleet.autoscaler import SYNC_S, Autoscaler, Scaling, desired
from pem_fleet.queueing import Counters, Ticks
from pem_fleet.service import Service
from pem_fleet.signals import Signal, Window

SCAN_S = 10.0  # how often the cluster's own autoscaler looks for machines to order or return
UNNEEDED_S = 600.0  # how long a machine stands idle before it is returned


@dataclass(frozen=True)
class Delays:
    """Seconds, and machines kept warm as a share of the servers.

    A GPU machine takes 80 s to 5 min in public reports, and the cluster autoscaler allows 15 min;
    4 min is taken, with the image already on it or streamed. A TensorRT engine is read in seconds,
    CUDA and warm-up around it take longer.
    """

    machine_s: float = 240.0
    load_s: float = 30.0
    scrape_s: float = 5.0
    sync_s: float = SYNC_S
    warm_share: float = 0.0


@dataclass(frozen=True)
class Moment:
    """One line of the timeline, written at every decision. Rates are images a second."""

    at: float
    offered: float
    signal: float
    asked: int
    ready: int
    machines: int
    missed: float  # share of the images since the line before


class Loop:
    """One autoscaled fleet."""

    def __init__(
        self,
        clock: simpy.Environment,
        service: Service,
        scaling: Scaling,
        signal: Signal,
        delays: Delays,
        *,
        start: int,
    ) -> None:
        self.timeline: list[Moment] = []
        self.machine_seconds = 0.0
        self.rescales = 0
        self._clock, self._service, self._signal, self._delays = clock, service, signal, delays
        self._autoscaler = Autoscaler(scaling)
        self._asked = start
        self._free = 0  # machines that came and hold no server
        self._ordered = 0
        self._loading = 0
        self._idle_since: deque[tuple[float, int]] = deque()
        self._samples: deque[tuple[float, Counters, float]] = deque()
        self._seen = Counters()
        service.resize(start)
        self._free = self._warm_wanted()
        for process in (self._scrape, self._decide, self._scan):
            clock.process(process())

    def _scrape(self) -> Ticks:
        while True:
            now = self._clock.now
            self._samples.append((now, self._service.counters(), self._service.pending))
            while self._samples[0][0] < now - self._signal.window_s - 1e-9:
                self._samples.popleft()
            yield self._clock.timeout(self._delays.scrape_s)

    def _decide(self) -> Ticks:
        while True:
            yield self._clock.timeout(self._delays.sync_s)
            total = self._signal.total(self._window())
            scaling = self._autoscaler.scaling
            proposal = desired(total, self._signal.threshold, self._asked, scaling)
            before = self._asked
            self._asked = self._autoscaler.sync(self._clock.now, before, [proposal])
            self.rescales += self._asked != before
            self._place()
            self._write(total)

    def _window(self) -> Window:
        """What the recording rules would say now."""
        first, last = self._samples[0], self._samples[-1]
        seconds = max(last[0] - first[0], self._delays.scrape_s)
        old, new = first[1], last[1]
        lately = [pending for at, _, pending in self._samples if at > last[0] - 30.0]

        def rate(counted: Callable[[Counters], float]) -> float:
            return (counted(new) - counted(old)) / seconds

        return Window(
            offered=rate(lambda c: c.offered),
            accepted=rate(lambda c: c.accepted),
            batched=rate(lambda c: c.batched),
            batches=rate(lambda c: c.batches),
            queue=rate(lambda c: c.queue_s),
            compute=rate(lambda c: c.compute_s),
            busy=rate(lambda c: c.busy_s),
            pending=sum(lately) / len(lately),
            ready=self._service.ready,
        )

    def _place(self) -> None:
        """Start servers on free machines, or let go of ready ones; `_load` lets the others go."""
        missing = self._asked - self._service.ready - self._loading
        for _ in range(min(missing, self._free)):
            self._free -= 1
            self._loading += 1
            self._clock.process(self._load())
        spare = self._service.ready - self._asked
        if spare > 0:
            self._service.resize(self._asked)
            self._free += spare

    def _load(self) -> Ticks:
        yield self._clock.timeout(self._delays.load_s)
        self._loading -= 1
        if self._service.ready < self._asked:
            self._service.resize(self._service.ready + 1)
        else:
            self._free += 1

    def _scan(self) -> Ticks:
        """Order the machines that are missing and return those that nobody needed for long."""
        while True:
            wanted = self._asked + self._warm_wanted()
            there = self._service.ready + self._loading + self._free + self._ordered
            if there < wanted:
                self._ordered += wanted - there
                self._clock.process(self._deliver(wanted - there))
            self._return_idle(there - wanted)
            self.machine_seconds += self._machines * SCAN_S
            yield self._clock.timeout(SCAN_S)

    def _deliver(self, count: int) -> Ticks:
        yield self._clock.timeout(self._delays.machine_s)
        self._ordered -= count
        self._free += count
        self._place()

    def _return_idle(self, surplus: int) -> None:
        now = self._clock.now
        self._idle_since.append((now, max(surplus, 0)))
        while self._idle_since[0][0] < now - UNNEEDED_S:
            self._idle_since.popleft()
        if now < UNNEEDED_S:
            return
        unneeded = min(min(count for _, count in self._idle_since), self._free)
        if unneeded:
            self._free -= unneeded
            self._idle_since = deque((at, count - unneeded) for at, count in self._idle_since)

    def _warm_wanted(self) -> int:
        return math.ceil(self._asked * self._delays.warm_share)

    @property
    def _machines(self) -> int:
        return self._service.ready + self._loading + self._free + self._ordered

    def _write(self, signal: float) -> None:
        seen = self._service.counters()
        offered = seen.offered - self._seen.offered
        missed = (seen.missed - self._seen.missed) / offered if offered else 0.0
        self._seen = seen
        self.timeline.append(
            Moment(
                self._clock.now,
                offered / self._delays.sync_s,
                signal,
                self._asked,
                self._service.ready,
                self._machines,
                missed,
            )
        )
