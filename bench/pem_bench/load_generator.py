"""Load from one light process: N requests always in flight, or arrivals by the clock.

A closed loop sends until its time is over and then waits for what is in flight, so its rate is all
answers over the time from idle to idle: no edge of a window cuts a batch in two. The open loop
sends at given times whether or not answers came, and counts latency from those times.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import count

import numpy as np

Send = Callable[[], bytes]  # one request to its answer; raises where there is none
# Opens a connection for the length of its block.
Connect = Callable[[], AbstractContextManager[Send]]
Check = Callable[[bytes], str | None]  # a sentence about a wrong answer

MOST_IN_FLIGHT = 256  # of an open loop; above that it would measure its own threads


@dataclass(frozen=True)
class LoadResult:
    """All requests of one turn: seconds each took, and why some have no right answer."""

    latencies: tuple[float, ...]  # of right answers
    failures: tuple[str, ...]
    seconds: float  # from the first request to the last answer
    client_seconds: float  # processor time of the client, all threads

    @property
    def images_per_second(self) -> float:
        return len(self.latencies) / self.seconds

    def milliseconds(self, percent: float) -> float:
        """A percentile of the latencies, which is one of them; nan without any."""
        return 1000 * percentile(self.latencies, percent)


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` of all do not exceed; nan of none."""
    if not len(values):
        return float("nan")
    return float(np.percentile(values, percent, method="inverted_cdf"))


def send_once(connect: Connect) -> bytes:
    """One answer over a connection of its own."""
    with connect() as send:
        return send()


def merge(turns: Sequence[LoadResult]) -> LoadResult:
    """Several turns of the same as one."""
    return LoadResult(
        tuple(latency for turn in turns for latency in turn.latencies),
        tuple(failure for turn in turns for failure in turn.failures),
        sum(turn.seconds for turn in turns),
        sum(turn.client_seconds for turn in turns),
    )


def closed_loop(
    connect: Connect,
    check: Check,
    *,
    in_flight: int,
    seconds: float = float("inf"),
    requests: float = float("inf"),
) -> LoadResult:
    """Keep `in_flight` requests going for `seconds`, or until `requests` were sent."""
    numbers, lock = count(), threading.Lock()

    def due_times(start: float) -> Iterator[float]:
        while time.perf_counter() - start < seconds:
            with lock:
                if next(numbers) >= requests:
                    return
            yield time.perf_counter()

    return _run(connect, check, in_flight, due_times)


def open_loop(connect: Connect, check: Check, offsets: Sequence[float]) -> LoadResult:
    """Send a request at each of `offsets`, in rising seconds from the start."""
    numbers, lock = iter(offsets), threading.Lock()

    def due_times(start: float) -> Iterator[float]:
        while True:
            with lock:
                offset = next(numbers, None)
            if offset is None:
                return
            time.sleep(max(0.0, start + offset - time.perf_counter()))
            yield start + offset

    return _run(connect, check, min(MOST_IN_FLIGHT, len(offsets)), due_times)


def _run(
    connect: Connect, check: Check, threads: int, due_times: Callable[[float], Iterator[float]]
) -> LoadResult:
    """Each thread has a connection of its own, sends at its `due_times` and notes the answers."""
    latencies: list[float] = []
    failures: list[str] = []
    start = 0.0
    ready = threading.Barrier(threads + 1)

    def work() -> None:
        with connect() as send:
            ready.wait()  # all are connected
            ready.wait()  # the clock is set
            for due in due_times(start):
                try:
                    answer = send()
                    end = time.perf_counter()
                    wrong = check(answer)
                except Exception as error:  # whatever it is, there is no answer
                    wrong = f"{type(error).__name__}: {error}"
                if wrong is None:
                    latencies.append(end - due)
                else:
                    failures.append(wrong)

    with ThreadPoolExecutor(threads) as pool:
        workers = [pool.submit(work) for _ in range(threads)]
        ready.wait()
        start, used = time.perf_counter(), time.process_time()
        ready.wait()
        for worker in workers:
            worker.result()
    seconds = time.perf_counter() - start
    return LoadResult(tuple(latencies), tuple(failures), seconds, time.process_time() - used)
