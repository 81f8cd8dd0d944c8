"""One server, image by image: queues, batches and processes as events on a simulated clock.

Each step is Triton's dynamic batcher: a batch goes to a free process when it is full or its oldest
image has waited for the queue delay; a full queue refuses, and so does one after its time-out.

A queue with a policy has another batcher, as in Triton's dynamic_batch_scheduler.cc: when it looks
at images while no process is free, it stays there until one is, and nothing enters the queue
meanwhile; when it finds none, it sleeps until an arrival finds a process free, or half a second.

Not modelled: steps of one server competing for its cores.
"""

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pem_fleet.queueing.served_steps import Step

LIMIT_S = 5.0  # of the gateway: what would be answered later is refused
SLEEP_S = 0.5  # of the batcher of a queue with a policy, unless it is woken


class Clock:
    """Simulated seconds: runs callbacks in the order of their times."""

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._number = itertools.count()  # keeps the order of equal times

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        """Call `act` in so many seconds."""
        heapq.heappush(self._events, (self.now + seconds, next(self._number), act))

    def run(self, until: float) -> None:
        """Run all events before this time."""
        while self._events and self._events[0][0] < until:
            self.now, _, act = heapq.heappop(self._events)
            act()
        self.now = until


@dataclass
class Counters:
    """Images, or seconds summed over images, since the start."""

    offered: int = 0
    answered: int = 0
    refused: int = 0
    queue_s: float = 0.0  # before pem_network
    compute_s: float = 0.0  # of pem_network, charged to every image of a batch, as Triton does
    batches: int = 0
    batched: int = 0  # images in them

    @property
    def mean_batch(self) -> float:
        """Images in a batch of the network."""
        return self.batched / max(self.batches, 1)


@dataclass(slots=True)
class QueuedImage:
    """One request. `arrived`: at the server; `queued`: at its present step."""

    arrived: float
    queued: float = 0.0


class StepQueue:
    """The queue and the processes of one step."""

    def __init__(
        self,
        clock: Clock,
        step: Step,
        done: Callable[[list[QueuedImage]], None],
        refuse: Callable[[QueuedImage], None],
        started: Callable[[list[QueuedImage], float], None] | None = None,
    ) -> None:
        self.waiting: deque[QueuedImage] = deque()
        self._clock, self._step = clock, step
        self._done, self._refuse, self._started = done, refuse, started
        self._free = step.processes
        self._timer_at = float("inf")
        self._held_up = False  # its batcher, of a queue with a policy, waits for a process
        self._outside: deque[QueuedImage] = deque()  # arrived meanwhile

    def put(self, image: QueuedImage) -> None:
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

    def _start(self, batch: list[QueuedImage]) -> None:
        self._free -= 1
        seconds = self._step.cost.seconds(len(batch))
        if self._started:
            self._started(batch, seconds)
        self._clock.after(seconds, lambda: self._end(batch))

    def _end(self, batch: list[QueuedImage]) -> None:
        self._free += 1
        self._done(batch)
        if self._step.prefetches or self._held_up:
            self._dispatch()

    def _look_again(self, at: float) -> None:
        """Set the timer anew."""
        if at != self._timer_at:
            self._timer_at = at
            self._clock.after(at - self._clock.now, lambda: self._on_timer(at))

    def _on_timer(self, at: float) -> None:
        if at == self._timer_at:
            self._timer_at = float("inf")
            self._dispatch()


class Server:
    """One server: its steps in a row, from image to answer."""

    def __init__(self, clock: Clock, steps: Sequence[Step], overhead_s: float = 0.0) -> None:
        self.counters = Counters()
        self.latencies: list[float] = []  # seconds, of what was answered
        self._clock, self._overhead_s = clock, overhead_s
        self._queues: list[StepQueue] = []
        for place, step in enumerate(steps):
            note = self._note_batch if step.name == "pem_network" else None
            self._queues.append(
                StepQueue(clock, step, self._forward(place), self._count_refused, note)
            )
        self._inside, self._most = 0, LIMIT_S * min(step.most for step in steps)

    def put(self) -> None:
        """Take an image now, unless its answer would take longer than the gateway's limit."""
        self.counters.offered += 1
        if self._inside and self._inside + 1 > self._most:
            self.counters.refused += 1
        else:
            self._inside += 1
            self._queues[0].put(QueuedImage(self._clock.now))

    def _forward(self, place: int) -> Callable[[list[QueuedImage]], None]:
        def done(batch: list[QueuedImage]) -> None:
            for image in batch:
                if place + 1 < len(self._queues):
                    self._queues[place + 1].put(image)
                else:
                    self._count_answered(image)

        return done

    def _note_batch(self, batch: list[QueuedImage], seconds: float) -> None:
        counters = self.counters
        counters.batches += 1
        counters.batched += len(batch)
        counters.compute_s += seconds * len(batch)
        counters.queue_s += sum(self._clock.now - image.queued for image in batch)

    def _count_answered(self, image: QueuedImage) -> None:
        self.latencies.append(self._clock.now - image.arrived + self._overhead_s)
        self.counters.answered += 1
        self._inside -= 1

    def _count_refused(self, _: QueuedImage) -> None:
        self._inside -= 1
        self.counters.refused += 1
