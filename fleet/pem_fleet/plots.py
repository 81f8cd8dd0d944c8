"""The images of both reports: load, servers and misses over time; misses over cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pem_fleet.load import ANSWERED, Request
from pem_fleet.sizing import Outcome
from pem_fleet.timeline import Plan, Sight, p95

BIN_S = 5.0
BLUE, RED, GREY, GREEN = "#2b6cb0", "#c53030", "#718096", "#2f855a"


def draw_simulation(
    path: Path, day: Outcome, signals: Sequence[Outcome], targets: Sequence[Outcome]
) -> None:
    """Draw one day under the chosen target beside the cost of signals and targets."""
    figure, (load, servers, compared) = _rows(3, 11.0)
    hours = [moment.at / 3600 for moment in day.timeline]
    load.plot(hours, [moment.offered for moment in day.timeline], color=BLUE, label="offered")
    load.set(ylabel="images a second", title=f"{day.load}, demand at {day.target:.0%} of capacity")
    late = load.twinx()
    late.fill_between(
        hours, [100 * m.missed for m in day.timeline], color=RED, alpha=0.5, label="missed"
    )
    late.set(ylabel="missed goal, %", ylim=(0, 100))
    servers.plot(hours, [m.asked for m in day.timeline], color=GREY, label="asked for")
    servers.plot(hours, [m.ready for m in day.timeline], color=GREEN, label="ready")
    servers.plot(hours, [m.machines for m in day.timeline], ":", color=BLUE, label="machines paid")
    servers.set(ylabel="servers", xlabel="hours")
    servers.legend(loc="upper left")
    _compare(compared, signals, targets)
    _save(figure, path)


def draw_fleet_test(
    path: Path,
    plan: Plan,
    threshold: float,
    sights: Sequence[Sight],
    requests: Sequence[Request],
) -> None:
    """Draw load and demand, servers and latency over the time of a fleet test."""
    figure, (load, servers, latency) = _rows(3, 9.0)
    seconds = [sight.at for sight in sights]
    edges = np.arange(0.0, max(request.due_s for request in requests) + BIN_S, BIN_S)
    sent, _ = np.histogram([request.due_s for request in requests], edges)
    load.stairs(sent / BIN_S, edges, color=BLUE, label="sent")
    known = [math.nan if sight.demand is None else sight.demand for sight in sights]
    load.plot(seconds, known, color=RED, label="demand, as Prometheus says")
    load.set(ylabel="images a second", title="the autoscaling loop with real servers")
    load.legend(loc="upper right")
    servers.plot(
        seconds, [n / threshold for n in known], color=RED, alpha=0.4, label="demand / threshold"
    )
    servers.step(seconds, [s.asked for s in sights], where="post", color=GREY, label="asked for")
    servers.step(seconds, [s.ready for s in sights], where="post", color=GREEN, label="ready")
    servers.step(
        seconds, [s.draining for s in sights], ":", where="post", color=BLUE, label="draining"
    )
    servers.set(ylabel="servers", ylim=(0, plan.most + 1.5))
    servers.legend(loc="upper right")
    p95s = [p95(requests, edge, edge + BIN_S) or math.nan for edge in edges[:-1]]
    latency.stairs(p95s, edges, color=GREEN, label=f"p95 of {BIN_S:g} s")
    latency.axhline(plan.goal_s, color=GREY, linestyle=":", label="goal")
    lost = [r for r in requests if r.outcome != ANSWERED]
    latency.plot([r.due_s for r in lost], [0.0] * len(lost), "x", color=RED, label="not answered")
    latency.set(ylabel="seconds", xlabel="seconds since the first image", ylim=(0, None))
    latency.legend(loc="upper right")
    for axes in (load, servers, latency):
        axes.set_xlim(0, max(seconds))
    _save(figure, path)


def _compare(axes: Any, signals: Sequence[Outcome], targets: Sequence[Outcome]) -> None:
    hours = [one.gpu_hours for one in targets]
    axes.plot(hours, [100 * one.missed for one in targets], "o-", color=GREEN)
    for one in targets:
        _name(axes, one, f"{one.target:.0%}", GREEN, 6)
    for place, one in enumerate(each for each in signals if each.signal != "demand"):
        axes.plot(one.gpu_hours, 100 * one.missed, "x", color=RED)
        _name(axes, one, one.signal, RED, 8 if place % 2 else -12)
    least = signals[0].least_hours
    axes.axvline(least, color=GREY, linestyle=":", label="servers needed each second, no more")
    axes.legend(loc="upper right")
    axes.set_yscale("symlog", linthresh=0.1)
    axes.margins(x=0.12)
    axes.set(
        xlabel="GPU-hours",
        ylabel="missed goal, %",
        ylim=(-0.02, 300),
        title="demand at several targets (green), the signals of public charts (red)",
    )


def _name(axes: Any, one: Outcome, text: str, color: str, up: int) -> None:
    where = (one.gpu_hours, 100 * one.missed)
    axes.annotate(text, where, xytext=(6, up), textcoords="offset points", color=color)


def _rows(count: int, height: float) -> Any:
    import matplotlib  # late: it takes a second

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot.subplots(count, 1, figsize=(9.0, height), layout="constrained")


def _save(figure: Any, path: Path) -> None:
    from matplotlib import pyplot

    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
