"""The plot of a run: latency over load with the knee, or over time for the other shapes."""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib import pyplot
from matplotlib.axes import Axes

from .coordinator import RunResult
from .samples import Outcome, percentile

COLORS = {"p50": "#4c78a8", "p95": "#f2a541", "p99": "#c8352c"}
_BINS = 60


def draw(result: RunResult, report: dict[str, Any], file: Path) -> None:
    """Write the plot (PNG) of a run with at least one step."""
    figure, axes = pyplot.subplots(figsize=(8, 4.8), layout="constrained")
    if report["settings"]["shape"] == "ladder":
        _over_load(axes, report)
    else:
        _over_time(axes, result)
    settings = report["settings"]
    goal = f"goal: p{settings['percentile']:g} at most {settings['latency_goal']:g} ms"
    axes.axhline(settings["latency_goal"], color="0.4", linestyle="--", linewidth=1, label=goal)
    axes.set_yscale("log")
    axes.set_ylabel("latency from the intended sending, ms")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.grid(alpha=0.25, which="both", linewidth=0.5)
    axes.legend(loc="upper left", fontsize=8)
    axes.set_title(
        f"{report['model']}\n{report['machine']}: {report['verdict'].upper()}", fontsize=9
    )
    figure.savefig(file, dpi=120)
    pyplot.close(figure)


def _over_load(axes: Axes, report: dict[str, Any]) -> None:
    steps = sorted(report["steps"], key=lambda step: float(step["rate"]))
    rates = [step["rate"] for step in steps]
    for name, color in COLORS.items():
        values = [np.nan if step[f"{name}_ms"] is None else step[f"{name}_ms"] for step in steps]
        axes.plot(rates, values, "o-", color=color, label=name, markersize=4, linewidth=1.5)
    missed = [step["rate"] for step in steps if step["verdict"] != "pass"]
    floor = min((step["p50_ms"] for step in steps if step["p50_ms"]), default=1.0)
    axes.plot(missed, [floor * 0.7] * len(missed), "x", color="0.4", label="missed the goal")
    if knee := report["knee_images_per_second"]:
        axes.axvline(knee, color="#2a7f3e", linewidth=2, label=f"knee: {knee:.1f} images a second")
    axes.set_xlabel("load, images a second (open loop, Poisson)")


def _over_time(axes: Axes, result: RunResult) -> None:
    samples = np.concatenate([step.samples for step in result.steps])
    if not len(samples):
        return
    begin, end = samples["due_s"].min(), samples["due_s"].max() + 1e-9
    edges = np.linspace(begin, end, max(2, min(_BINS, len(samples) // 20) + 1))
    middles = (edges[:-1] + edges[1:]) / 2 - begin
    answered = samples[samples["outcome"] == Outcome.ANSWERED]
    places = np.digitize(answered["due_s"], edges) - 1
    for name, color in COLORS.items():
        values = [
            percentile(answered["latency_ms"][places == place], float(name[1:]))
            for place in range(len(middles))
        ]
        axes.plot(middles, values, "o-", color=color, label=name, markersize=3, linewidth=1.2)
    load = axes.twinx()
    sent, _ = np.histogram(samples["due_s"], edges)
    load.stairs(sent / np.diff(edges), edges - begin, color="0.75", fill=True, alpha=0.5)
    load.set_ylabel("sent, images a second (grey)")
    load.set_ylim(bottom=0)
    load.set_zorder(-1)
    axes.patch.set_visible(False)
    axes.set_xlabel("seconds")
