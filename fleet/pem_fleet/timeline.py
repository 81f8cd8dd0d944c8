"""What a fleet test saw, and what must be true of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pem_fleet.load import ANSWERED, REFUSED, Request

RECOVERED_AFTER = 0.6  # of the high load: by then the servers it needs are to be there


@dataclass(frozen=True)
class Sight:
    """What the loop saw at one sync; `at` in seconds from the first image."""

    at: float
    demand: float | None
    asked: int
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
        wanted = math.ceil(self.steps[step][1] / self.threshold)
        return min(max(wanted, self.least), self.most)

    def span(self, step: int) -> tuple[float, float]:
        """When a step begins and ends."""
        begin = sum(seconds for seconds, _ in self.steps[:step])
        return begin, begin + self.steps[step][0]


def p95(requests: Sequence[Request], begin: float, end: float) -> float | None:
    """Seconds, of the images due in this time that were answered; None without any."""
    seen = [r.latency_s for r in requests if begin <= r.due_s < end and r.outcome == ANSWERED]
    return float(np.quantile(seen, 0.95)) if seen else None


def problems(
    plan: Plan, sights: Sequence[Sight], requests: Sequence[Request], drains: Sequence[str]
) -> list[str]:
    """Return one sentence for each thing that must hold and does not, best none."""
    return [
        *_unfollowed(plan, sights),
        *_unrecovered(plan, requests),
        *_lost(plan, requests),
        *_undrained(drains),
    ]


def _unfollowed(plan: Plan, sights: Sequence[Sight]) -> list[str]:
    """Servers must rise to what the high load needs, within it, and come back after it."""
    found = []
    begin, end = plan.span(1)
    highest = max((s.ready for s in sights if begin <= s.at < end), default=0)
    if highest < plan.needs(1):
        found.append(
            f"{plan.needs(1)} servers were needed under the high load, {highest} were ready."
        )
    if sights and sights[-1].asked > plan.needs(2):
        found.append(
            f"{plan.needs(2)} servers were enough at the end, {sights[-1].asked} were left."
        )
    blind = sum(sight.demand is None for sight in sights)
    if blind > len(sights) / 10:
        found.append(f"{blind} of {len(sights)} queries of the demand were without an answer.")
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
            told = "nothing was answered" if seen is None else f"p95 was {seen:.2f} s"
            found.append(f"p95 must be within {plan.goal_s:g} s {name}, and {told}.")
    return found


def _lost(plan: Plan, requests: Sequence[Request]) -> list[str]:
    """Every image has an answer, or was refused at once by a full queue."""
    ends = [request.outcome for request in requests]
    found = []
    if len(ends) != plan.sent:
        found.append(f"{plan.sent} images were to be sent, {len(ends)} are accounted for.")
    lost = sorted({end for end in ends if end not in (ANSWERED, REFUSED)})
    for outcome in lost:
        found.append(f"{ends.count(outcome)} images ended as {outcome}: none may be lost.")
    return found


def _undrained(drains: Sequence[str]) -> list[str]:
    if not drains:
        return ["No server was drained: the test shows nothing about it."]
    return [
        f"A drain ended with {one!r}, not idle." for one in drains if not one.startswith("idle")
    ]
