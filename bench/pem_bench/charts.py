"""The plots of the reports, drawn from the same content."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, StrMethodFormatter

from .bench_report import series_of
from .machine import machine_line

Content = Mapping[str, Any]
Line = tuple[Sequence[float], Sequence[float]]  # x, y


@dataclass(frozen=True)
class Panel:
    """One set of axes; a count axis is logarithmic with a tick at each x."""

    title: str
    x_label: str
    y_label: str
    lines: Mapping[str, Line]
    counts: bool = True
    log_y: bool = False


def line_chart(path: Path, title: str, panels: Sequence[Panel]) -> Path:
    """The panels side by side, each with its legend; returns `path`."""
    figure = Figure(figsize=(1 + 5.5 * len(panels), 5), layout="constrained")
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for label, (x, y) in panel.lines.items():
            axes.plot(x, y, marker="." if panel.counts else None, label=label)
        axes.set(title=panel.title, xlabel=panel.x_label, ylabel=panel.y_label)
        if panel.counts:
            axes.set_xscale("log", base=2)
            axes.set_xticks(sorted({x for xs, _ in panel.lines.values() for x in xs}))
        if panel.log_y:
            axes.set_yscale("log")
        else:
            axes.set_ylim(bottom=0)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axis.set_minor_formatter(NullFormatter())
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize="x-small")
    figure.suptitle(title.replace("; ", "\n"), x=0.01, ha="left", fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    return path


def engine_chart(path: Path, content: Content) -> Path:
    """Images a second of each backend over the batch size, with the figures of a T4."""
    results, t4 = content["results"], content["t4"]
    batches = sorted({result["batch"] for result in results})
    lines = {
        name: _line([r for r in results if r["backend"] == name], "batch", "images_per_second")
        for name in dict.fromkeys(result["backend"] for result in results)
    }
    lines[f"T4, roofline {t4['precision']}"] = (batches, [t4["roofline"][str(b)] for b in batches])
    lines["T4, our aim"] = (batches, [t4["aim"]] * len(batches))
    lines["T4, the model card"] = (batches, [t4["card"]] * len(batches))
    panel = Panel("", "batch size", "images a second", lines, log_y=True)
    return line_chart(path, machine_line(content["machine"]), [panel])


def end_to_end_chart(path: Path, content: Content) -> Path:
    """Images a second, median and p99 over the requests in flight."""
    rows, x_label = content["rows"], "requests in flight"
    panels = [
        Panel("", x_label, "images a second", _by_series(rows, "images_per_second")),
        Panel("", x_label, "p50, ms", _by_series(rows, "p50_ms"), log_y=True),
        Panel("", x_label, "p99, ms", _by_series(rows, "p99_ms"), log_y=True),
    ]
    return line_chart(path, machine_line(content["machine"]), panels)


def memory_chart(path: Path, content: Content) -> Path:
    """MB over time, of each run."""
    panels = []
    for name, run in content["runs"].items():
        keys = ("pss_mb", "rss_mb")
        lines = {key[:3].upper(): _line(run["samples"], "seconds", key) for key in keys}
        panels.append(Panel(name, "seconds", "MB", lines, counts=False))
    return line_chart(path, machine_line(content["machine"]), panels)


def _by_series(rows: Sequence[Content], key: str) -> dict[str, Line]:
    return {
        name: _line([row for row in rows if series_of(row) == name], "in_flight", key)
        for name in dict.fromkeys(map(series_of, rows))
    }


def _line(rows: Sequence[Content], x: str, y: str) -> Line:
    points = sorted((row[x], row[y]) for row in rows)
    return [point[0] for point in points], [point[1] for point in points]
