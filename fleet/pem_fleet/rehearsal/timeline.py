"""What a fleet test recorded, and what must hold of it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pem_fleet.rehearsal.replayed_load import ANSWERED, REFUSED, Request

RECOVERED_AFTER = 0.6  # of the high load: by then the servers it needs are to be there


class Sample(NamedTuple):
    """What the loop saw at one sync; `at` in seconds from the first image."""

    at: float
    demand: float | None
    desired: int
    ready: int
    starting: int
    draining: int


@dataclass(frozen=True)
class Plan:
    """What was to happen: (seconds, images a second) steps low, high, low, and what they need."""

    steps: tuple[tuple[float, float], ...]
    threshold: float
    least: int
    most: int
    goal_s: float
    sent: int

    def needs(self, step: int) -> int:
        """Servers that the load of a step needs, within the bounds."""
        needed = math.ceil(self.steps[step][1] / self.threshold)
        return min(max(needed, self.least), self.most)

    def span(self, step: int) -> tuple[float, float]:
        """When a step begins and ends."""
        begin = sum(seconds for seconds, _ in self.steps[:step])
        return begin, begin + self.steps[step][0]


def p95(requests: Sequence[Request], begin: float, end: float) -> float | None:
    """Seconds, of the images due in this time that were answered; None without any."""
    seen = [r.latency_s for r in requests if begin <= r.due_s < end and r.outcome == ANSWERED]
    return float(np.quantile(seen, 0.95)) if seen else None


def problems(
    plan: Plan, samples: Sequence[Sample], requests: Sequence[Request], drains: Sequence[str]
) -> list[str]:
    """Return one sentence for each thing that must hold and does not, best none."""
    return [
        *_unfollowed(plan, samples),
        *_unrecovered(plan, requests),
        *_lost(plan, requests),
        *_undrained(drains),
    ]


def _unfollowed(plan: Plan, samples: Sequence[Sample]) -> list[str]:
    """Servers must rise to what the high load needs, within it, and come back after it."""
    found = []
    begin, end = plan.span(1)
    highest = max((s.ready for s in samples if begin <= s.at < end), default=0)
    if highest < plan.needs(1):
        found.append(f"the high load needs {plan.needs(1)} server(s), {highest} were ready")
    if samples and samples[-1].desired > plan.needs(2):
        found.append(f"the end needs {plan.needs(2)} server(s), {samples[-1].desired} were left")
    blind = sum(sample.demand is None for sample in samples)
    if blind > len(samples) / 10:
        found.append(f"{blind} of {len(samples)} queries of the demand had no answer")
    return found


def _unrecovered(plan: Plan, requests: Sequence[Request]) -> list[str]:
    """p95 must meet the goal again while the load is still high, and at the end."""
    found = []
    begin, end = plan.span(1)
    for name, since, until in (
        ("with the servers it needs", begin + RECOVERED_AFTER * (end - begin), end),
        ("after the high load", plan.span(2)[0] + plan.steps[2][0] / 4, plan.span(2)[1]),
    ):
        seen = p95(requests, since, until)
        if seen is None or seen > plan.goal_s:
            shown = "nothing was answered" if seen is None else f"p95 was {seen:.2f} s"
            found.append(f"p95 must be within {plan.goal_s:g} s {name}: {shown}")
    return found


def _lost(plan: Plan, requests: Sequence[Request]) -> list[str]:
    """Every image has an answer, or was refused at once by a full queue."""
    ends = [request.outcome for request in requests]
    found = []
    if len(ends) != plan.sent:
        found.append(f"{len(ends)} of {plan.sent} planned images are accounted for")
    lost = sorted({end for end in ends if end not in (ANSWERED, REFUSED)})
    for outcome in lost:
        found.append(f"{ends.count(outcome)} image(s) ended as {outcome}: none may be lost")
    return found


def _undrained(drains: Sequence[str]) -> list[str]:
    if not drains:
        return ["no server was drained, so the drain is untested"]
    return [f"a drain ended with {one!r}, not idle" for one in drains if not one.startswith("idle")]
