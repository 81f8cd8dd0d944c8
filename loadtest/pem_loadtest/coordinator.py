"""Plans a run, gives every process its shard, gathers the samples and reaches the verdict.

It runs in one process: locust's master, or the only one. A schedule goes to all processes: steps
without a gap between them, then silence, so that the server's counters can be compared.
"""

import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from gevent import sleep  # type: ignore[import-untyped]
from gevent.event import Event  # type: ignore[import-untyped]

from . import counters, shapes
from .arrivals import Offsets, poisson_steps, shard
from .options import Settings, plan, recording
from .samples import SUCCEEDED, UNCERTAIN, Samples, count, read_samples, summarise
from .sender import LEAD_S, Schedule
from .verdict import Evaluation, Verdict, conservation_problem, evaluate, is_beyond_knee, worst

SCHEDULE, ENDED = "pem_schedule", "pem_ended"  # locust messages: to the workers, from them
_PATIENCE_S = 15.0  # beyond the clients' own time limit


class StepResult(NamedTuple):
    """One measured step. server: its stages, by model; empty without metrics."""

    step: shapes.Step
    samples: Samples
    server: dict[str, dict[str, Any]]
    evaluation: Evaluation


class RunResult(NamedTuple):
    """All of a run. knee: images a second, of a ladder that found one."""

    steps: list[StepResult]
    evaluation: Evaluation
    knee: float | None = None


class InvalidRun(Exception):
    """The run proves nothing; the text is the reason."""


class Coordinator:
    """Runs one load test over the processes that `workers` names (None: the only process).

    send: sends a message of locust, its type and data, to one of them.
    """

    def __init__(
        self,
        settings: Settings,
        send: Callable[[str, Any, str | None], None],
        workers: Callable[[], list[str | None]],
        log: Callable[[str], None] = lambda text: print(text, file=sys.stderr, flush=True),
    ) -> None:
        self._settings = settings
        self._send = send
        self._workers = workers
        self._log = log
        # A ladder's goal for the rate is one for its knee, not for the steps on the way.
        no_rate = {"answered_per_second": 0.0} if settings.shape == "ladder" else {}
        self._step_limits = settings.limits._replace(**no_rate)
        self._steps: list[StepResult] = []
        self._schedules = 0
        self._awaited = 0
        self._logs: list[bytes] = []
        self._all_ended = Event()

    def on_ended(self, number: int, samples: bytes) -> None:
        """A process has sent its shard."""
        if number == self._schedules:
            self._logs.append(samples)
            if len(self._logs) == self._awaited:
                self._all_ended.set()

    def run(self) -> RunResult:
        """The whole run."""
        knee = None
        try:
            if self._settings.shape == "ladder":
                knee = self._climb()
                evaluation = self._evaluate_ladder(knee)
            else:
                if self._settings.shape == "replay":
                    self._run_schedule(*recording(self._settings))
                else:
                    self._run_schedule(self._warmed_up(plan(self._settings)))
                evaluation = worst(result.evaluation for result in self._steps)
        except InvalidRun as problem:
            evaluation = Evaluation(Verdict.INVALID, (str(problem),))
        return RunResult(self._steps, evaluation, knee)

    def _climb(self) -> float | None:
        """The knee."""
        settings = self._settings
        bounds = {"lowest": settings.rate / 64, "highest": settings.highest_rate}
        search = shapes.search_knee(settings.rate, tolerance=settings.tolerance, **bounds)
        try:
            rate = next(search)
            while True:
                self._run_schedule(self._warmed_up(shapes.constant(rate, settings.seconds)))
                result = self._steps[-1]
                beyond = is_beyond_knee(result.samples, settings.seconds, self._step_limits)
                if beyond is None:
                    raise InvalidRun(f"at {rate:g}/s: " + "; ".join(result.evaluation.reasons))
                rate = search.send(not beyond)
        except StopIteration as end:
            knee: float | None = end.value
            return knee

    def _evaluate_ladder(self, knee: float | None) -> Evaluation:
        limits = self._settings.limits
        if knee is None:
            reason = "no rate met the goal"
        elif knee >= self._settings.highest_rate:
            reason = f"{knee:g}/s still met the goal: the knee is above --highest-rate"
        elif knee < limits.answered_per_second:
            reason = f"the knee is {knee:.1f}/s, the goal is {limits.answered_per_second:g}"
        else:
            return Evaluation(Verdict.PASS)
        return Evaluation(Verdict.MISSED, (reason,))

    def _warmed_up(self, steps: list[shapes.Step]) -> list[shapes.Step]:
        if not self._settings.warm_up:
            return steps
        return [shapes.Step("warm-up", steps[0].rate, self._settings.warm_up, False), *steps]

    def _run_schedule(self, steps: list[shapes.Step], offsets: Offsets | None = None) -> None:
        """One schedule, from silence to silence."""
        if offsets is None:
            rng = np.random.default_rng([self._settings.seed, self._schedules + 1])
            offsets = poisson_steps([(step.rate, step.seconds) for step in steps], rng)
        marks = [self._scrape()]
        start = time.monotonic() + LEAD_S
        length = sum(step.seconds for step in steps)
        self._send_schedule(offsets, length if self._settings.closed else 0.0)
        for end in np.cumsum([step.seconds for step in steps]):
            self._wait(start + float(end) - time.monotonic())
            marks.append(self._scrape())
        samples = self._gather()
        problem, marks[-1] = self._check_conservation(marks[0], samples)
        self._cut(steps, samples, marks)
        if problem:
            raise InvalidRun(problem)

    def _send_schedule(self, offsets: Offsets, closed_s: float) -> None:
        workers = self._workers()
        self._schedules += 1
        self._awaited, self._logs = len(workers), []
        self._all_ended.clear()
        for place, worker in enumerate(workers):
            own = shard(offsets, place, len(workers))
            seed = self._settings.seed * 1000 + place
            message = Schedule(self._schedules, own, closed_s, seed).to_message()
            self._send(SCHEDULE, message, worker)

    def _wait(self, seconds: float) -> None:
        sleep(max(0.0, seconds))
        if len(self._workers()) < self._awaited:
            raise InvalidRun("a worker disappeared during the run")

    def _gather(self) -> Samples:
        if not self._all_ended.wait(self._settings.time_limit + _PATIENCE_S):
            raise InvalidRun(
                f"{self._awaited - len(self._logs)} of {self._awaited} processes did not finish: "
                "a worker died, or this machine cannot generate the load"
            )
        samples = np.concatenate([read_samples(log) for log in self._logs])
        return samples[np.argsort(samples["due_s"], kind="stable")]

    def _scrape(self) -> counters.Counts:
        try:
            return counters.scrape(self._settings.metrics)
        except (OSError, ValueError) as error:
            raise InvalidRun(
                f"cannot read the server's metrics from {', '.join(self._settings.metrics)} "
                f"({error}): pass their address with --metrics URL, or --metrics none to go without"
            ) from error

    def _check_conservation(
        self, before: counters.Counts, samples: Samples
    ) -> tuple[str | None, counters.Counts]:
        """(the contradiction if any, the server's counters once they have settled)."""
        if not self._settings.metrics:
            return None, before
        succeeded, uncertain = count(samples, *SUCCEEDED), count(samples, *UNCERTAIN)
        after = counters.scrape_settled(
            self._settings.metrics, lambda now: counters.successes(before, now) >= succeeded
        )
        counted = counters.successes(before, after)
        return conservation_problem(succeeded, uncertain, counted), after

    def _cut(
        self, steps: list[shapes.Step], samples: Samples, marks: list[counters.Counts]
    ) -> None:
        """Cut a schedule into its steps; evaluate and log those that are measured."""
        begin = 0.0
        for place, step in enumerate(steps):
            end = begin + step.seconds
            is_last = place == len(steps) - 1
            after_begin = samples["due_s"] >= begin
            # The last arrival of a recording lies on its very end.
            own = samples[after_begin if is_last else after_begin & (samples["due_s"] < end)]
            begin = end
            if step.is_measured:
                server = counters.describe(marks[place], marks[place + 1])
                evaluation = evaluate(own, step.seconds, self._step_limits)
                self._steps.append(StepResult(step, own, server, evaluation))
                self._log(progress(self._steps[-1]))


def progress(result: StepResult) -> str:
    """One line about one step."""
    figures = summarise(result.samples, result.step.seconds)
    reasons = "".join(f"\n    {reason}" for reason in result.evaluation.reasons)
    return (
        f"{result.step.label:>10}  sent {figures['sent_per_second']:.1f}/s, answered "
        f"{figures['answered_per_second']:.1f}/s, p99 {figures['p99_ms']:.0f} ms, failed "
        f"{figures['failure_share']:.2%}, late p99 {figures['lateness_p99_ms']:.1f} ms  "
        f"{result.evaluation.verdict.name}{reasons}"
    )
