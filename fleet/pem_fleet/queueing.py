"""One server, image by image: queues, batches and processes as events on SimPy's clock.

Each step is Triton's dynamic batcher: a batch goes to a free process when it is full or its oldest
image has waited for the queue delay; a full queue refuses, and what waited too long is refused.

A queue with a policy is another batcher, as in Triton's dynamic_batch_scheduler.cc: when it looks
at images while no process is free, it stays there until one is, and nothing enters the queue
meanwhile; when it finds none, it sleeps until an arrival finds a process free, or half a second.

Not modelled: steps of one server taking each other's cores.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, fields

import simpy

from pem_fleet.steps import Step

Ticks = Generator[simpy.Event, None, None]  # what SimPy runs as a process

SLEEP_S = 0.5  # of the batcher of a queue with a policy, unless it is woken


@dataclass
class Counters:
    """What has happened since the start; images, or seconds summed over images or processes."""

    offered: float = 0
    accepted: float = 0  # answered by the first step: Triton's own count of what was offered
    answered: float = 0
    refused: float = 0
    missed: float = 0  # answered too late, or refused
    queue_s: float = 0.0  # of pem_network, as the public formulas use it
    compute_s: float = 0.0  # the same, charged to every image of a batch, as Triton does
    batches: float = 0
    batched: float = 0  # images in them
    busy_s: float = 0.0

    def add(self, other: Counters) -> None:
        """Add what another saw."""
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))


@dataclass(slots=True)
class Image:
    """One request. `arrived`: at the server; `queued`: at the step where it is now."""

    arrived: float
    queued: float = 0.0


class StepQueue:
    """The queue and the processes of one step."""

    def __init__(
        self,
        clock: simpy.Environment,
        step: Step,
        done: Callable[[list[Image]], None],
        refuse: Callable[[Image], None],
        started: Callable[[list[Image], float], None] | None = None,
    ) -> None:
        self.waiting: deque[Image] = deque()
        self._clock, self._step = clock, step
        self._done, self._refuse, self._started = done, refuse, started
        self._free = step.processes
        self._timer_at = float("inf")
        self._held_up = False  # the batcher of a queue with a policy waits for a free process
        self._outside: deque[Image] = deque()  # who came meanwhile

    def put(self, image: Image) -> None:
        """Take an image, or refuse it where the queue is full."""
        if self._held_up:
            self._outside.append(image)
        elif self._step.queue_limit and len(self.waiting) >= self._step.queue_limit:
            self._refuse(image)
        else:
            image.queued = self._clock.now
            self.waiting.append(image)
            if self._free:
                self._dispatch()

    def _dispatch(self) -> None:
        self._drop_late()
        while self._free and self.waiting:
            ready_at = self.waiting[0].queued + self._step.delay_s
            if len(self.waiting) < self._step.max_batch and self._clock.now < ready_at - 1e-9:
                self._look_again(ready_at)
                return
            count = min(len(self.waiting), self._step.max_batch)
            self._start([self.waiting.popleft() for _ in range(count)])
        if not self._step.prefetches:
            self._hold_up_or_sleep()

    def _hold_up_or_sleep(self) -> None:
        """What the batcher does after each look; those outside come in between two looks."""
        self._held_up = False
        while self._outside and not self._held_up:
            self.put(self._outside.popleft())
        self._held_up = bool(self.waiting) and not self._free
        if not self._held_up:
            self._look_again(self._clock.now + SLEEP_S)

    def _drop_late(self) -> None:
        limit = self._step.timeout_s
        while limit and self.waiting and self._clock.now - self.waiting[0].queued > limit:
            self._refuse(self.waiting.popleft())

    def _start(self, batch: list[Image]) -> None:
        self._free -= 1
        seconds = self._step.cost.seconds(len(batch))
        if self._started:
            self._started(batch, seconds)
        self._after(seconds, lambda: self._end(batch))

    def _end(self, batch: list[Image]) -> None:
        self._free += 1
        self._done(batch)
        if self._step.prefetches or self._held_up:
            self._dispatch()

    def _look_again(self, at: float) -> None:
        """Set the timer anew."""
        if at != self._timer_at:
            self._timer_at = at
            self._after(at - self._clock.now, lambda: self._on_timer(at))

    def _on_timer(self, at: float) -> None:
        if at == self._timer_at:
            self._timer_at = float("inf")
            self._dispatch()

    def _after(self, seconds: float, act: Callable[[], None]) -> None:
        event = self._clock.timeout(seconds)
        assert event.callbacks is not None
        event.callbacks.append(lambda _: act())


class Server:
    """One server: its steps in a row, from image to answer."""

    def __init__(
        self,
        clock: simpy.Environment,
        steps: Sequence[Step],
        goal_s: float,
        overhead_s: float = 0.0,
    ) -> None:
        self.counters = Counters()
        self.latencies: list[float] = []  # seconds, of what was answered
        self._clock, self._goal_s, self._overhead_s = clock, goal_s, overhead_s
        self._queues: list[StepQueue] = []
        for place, step in enumerate(steps):
            note = self._note_batch if step.name == "pem_network" else None
            self._queues.append(
                StepQueue(clock, step, self._forward(place), self._count_refused, note)
            )
        self._admission = steps[0].waiting_limit
        names = [step.name for step in steps]
        self._network = self._queues[names.index("pem_network") if self._admission else 0]

    def put(self) -> None:
        """Take an image now, unless too many decoded ones wait for the network."""
        self.counters.offered += 1
        if self._admission and len(self._network.waiting) >= self._admission:
            self.counters.accepted += 1  # to Triton, the first step answered: it said no itself
            self._count_refused(Image(self._clock.now))
        else:
            self._queues[0].put(Image(self._clock.now))

    @property
    def pending(self) -> int:
        """Images that wait in any step."""
        return sum(len(queue.waiting) for queue in self._queues)

    def _forward(self, place: int) -> Callable[[list[Image]], None]:
        def done(batch: list[Image]) -> None:
            if place == 0:
                self.counters.accepted += len(batch)
            for image in batch:
                if place + 1 < len(self._queues):
                    self._queues[place + 1].put(image)
                else:
                    self._count_answered(image)

        return done

    def _note_batch(self, batch: list[Image], seconds: float) -> None:
        counters = self.counters
        counters.batches += 1
        counters.batched += len(batch)
        counters.busy_s += seconds
        counters.compute_s += seconds * len(batch)
        counters.queue_s += sum(self._clock.now - image.queued for image in batch)

    def _count_answered(self, image: Image) -> None:
        latency = self._clock.now - image.arrived + self._overhead_s
        self.latencies.append(latency)
        self.counters.answered += 1
        self.counters.missed += latency > self._goal_s

    def _count_refused(self, image: Image) -> None:
        self.counters.refused += 1
        self.counters.missed += 1
