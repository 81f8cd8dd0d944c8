"""The plot of a fleet test: load, servers and latency over time."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pem_fleet.rehearsal.replayed_load import ANSWERED, Request
from pem_fleet.rehearsal.timeline import Plan, Sample, p95

BIN_S = 5.0
COUNTS = ("desired", "ready", "draining")
BLUE, RED, GREY, GREEN = "#2b6cb0", "#c53030", "#718096", "#2f855a"


def draw_fleet_test(
    path: Path, plan: Plan, threshold: float, samples: Sequence[Sample], requests: Sequence[Request]
) -> None:
    """Draw load and demand, servers and latency over the time of a fleet test."""
    import matplotlib  # late: it takes a second

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (load, servers, latency) = pyplot.subplots(3, figsize=(9, 9), layout="constrained")
    seconds = [sample.at for sample in samples]
    edges = np.arange(0.0, max(request.due_s for request in requests) + BIN_S, BIN_S)
    sent, _ = np.histogram([request.due_s for request in requests], edges)
    load.stairs(sent / BIN_S, edges, color=BLUE, label="sent")
    known = [math.nan if sample.demand is None else sample.demand for sample in samples]
    load.plot(seconds, known, color=RED, label="demand, from Prometheus")
    load.set(ylabel="images a second", title="the autoscaling loop with real servers")
    servers.plot(
        seconds, [n / threshold for n in known], color=RED, alpha=0.4, label="demand / threshold"
    )
    for name, color, line in zip(COUNTS, (GREY, GREEN, BLUE), "--:", strict=True):
        counts = [getattr(sample, name) for sample in samples]
        servers.step(seconds, counts, line, where="post", color=color, label=name)
    servers.set(ylabel="servers", ylim=(0, plan.most + 1.5))
    p95s = [p95(requests, edge, edge + BIN_S) or math.nan for edge in edges[:-1]]
    latency.stairs(p95s, edges, color=GREEN, label=f"p95 of {BIN_S:g} s")
    latency.axhline(plan.goal_s, color=GREY, linestyle=":", label="goal")
    lost = [r for r in requests if r.outcome != ANSWERED]
    latency.plot([r.due_s for r in lost], [0.0] * len(lost), "x", color=RED, label="not answered")
    latency.set(ylabel="seconds", xlabel="seconds since the first image", ylim=(0, None))
    for axes in (load, servers, latency):
        axes.set_xlim(0, max(seconds))
        axes.legend(loc="upper right")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
