"""Asking a server from one light process: N requests always in flight, or arrivals by the clock.

A closed loop sends until its time is over and then waits for what is in flight, so its rate is that
of all answers over the time from idle to idle: no edge of a window cuts a batch in two. The open
loop sends at given times whether or not answers came, and counts latency from those times.
"""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import count

from .percentiles import percentile

Ask = Callable[[], bytes]  # one request, its answer; raises when there is none
# A connection, for as long as its block; it connects at the first request.
Lane = Callable[[], AbstractContextManager[Ask]]
Check = Callable[[bytes], str | None]  # a sentence about a wrong answer

MOST_IN_FLIGHT = 256  # of an open loop; above that it would measure its own threads


@dataclass(frozen=True)
class Answered:
    """Every request of one turn: seconds each took, and why some are no answers."""

    latencies: tuple[float, ...]  # of right answers
    failures: tuple[str, ...]
    seconds: float  # from the first sending to the last answer
    client_seconds: float  # processor time that the asking took, all threads

    @property
    def images_per_second(self) -> float:
        return len(self.latencies) / self.seconds

    def milliseconds(self, percent: float) -> float:
        """A percentile of the latencies; nan without any."""
        return 1000 * percentile(self.latencies, percent)


def ask_once(lane: Lane) -> bytes:
    """One answer over a connection of its own."""
    with lane() as ask:
        return ask()


def join(turns: Sequence[Answered]) -> Answered:
    """Several turns of the same as one."""
    return Answered(
        tuple(latency for turn in turns for latency in turn.latencies),
        tuple(failure for turn in turns for failure in turn.failures),
        sum(turn.seconds for turn in turns),
        sum(turn.client_seconds for turn in turns),
    )


def closed_loop(
    lane: Lane,
    check: Check,
    *,
    in_flight: int,
    seconds: float | None = None,
    requests: int | None = None,
) -> Answered:
    """Keep `in_flight` requests going for `seconds`, or until `requests` were sent.

    Each thread opens the lane once, so that it may have a connection of its own.
    """
    if (seconds is None) == (requests is None):
        raise ValueError("a closed loop ends after seconds or after requests: give one of them")
    numbers, turn = count(), threading.Lock()

    def goes_on(start: float) -> bool:
        if seconds is not None:
            return time.perf_counter() - start < seconds
        with turn:
            return next(numbers) < (requests or 0)

    def times(start: float) -> Iterator[float]:
        while goes_on(start):
            yield time.perf_counter()

    return _run(lane, check, in_flight, times)


def open_loop(lane: Lane, check: Check, offsets: Sequence[float]) -> Answered:
    """Send a request at each of `offsets`, in rising seconds from the start."""
    numbers, turn = iter(offsets), threading.Lock()

    def times(start: float) -> Iterator[float]:
        while True:
            with turn:
                offset = next(numbers, None)
            if offset is None:
                return
            time.sleep(max(0.0, start + offset - time.perf_counter()))
            yield start + offset

    return _run(lane, check, min(MOST_IN_FLIGHT, len(offsets)), times)


def _run(
    lane: Lane,
    check: Check,
    threads: int,
    times: Callable[[float], Iterator[float]],
) -> Answered:
    """Each thread asks at the `times` it is given and notes its answers."""
    latencies: list[float] = []
    failures: list[str] = []
    ready = threading.Barrier(threads + 1)

    def work(start_at: list[float]) -> None:
        with lane() as ask:
            ready.wait()  # connections are made
            ready.wait()  # and the clock is set
            for due in times(start_at[0]):
                try:
                    answer = ask()
                    end = time.perf_counter()
                    wrong = check(answer)
                except Exception as error:  # whatever it is, it is no answer
                    wrong = f"{type(error).__name__}: {error}"
                if wrong is None:
                    latencies.append(end - due)
                else:
                    failures.append(wrong)

    start_at = [0.0]
    with ThreadPoolExecutor(threads) as pool:
        done = [pool.submit(work, start_at) for _ in range(threads)]
        ready.wait()
        start_at[0], used = time.perf_counter(), time.process_time()
        ready.wait()
        for each in done:
            each.result()
    seconds = time.perf_counter() - start_at[0]
    return Answered(tuple(latencies), tuple(failures), seconds, time.process_time() - used)
