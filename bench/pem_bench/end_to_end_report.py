"""The served systems side by side: a table of speeds, one of latencies, and the plot of both."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, StrMethodFormatter

from .machine import machine_line

Row = Mapping[str, Any]


def end_to_end_text(content: Mapping[str, Any]) -> str:
    """All tables of one run; a column for each number of requests in flight."""
    rows, settings = content["rows"], content["settings"]
    versions = ", ".join(f"{name} {version}" for name, version in content["packages"].items())
    lines = [
        machine_line(content["machine"]),
        versions,
        f"{settings['image']} ({settings['bytes']:,} bytes); {settings['rounds']} turns of "
        f"{settings['turn_seconds']:g} s; one client process, so many requests in flight:",
    ]
    for title, cell in CELLS.items():
        lines += ["", *table(title, rows, cell)]
    lines += ["", "MB: resident under load, shared pages once. Answers against the first system's:"]
    for name, system in content["systems"].items():
        found = system["difference"]
        lines.append(
            f"  {name:21} {system['megabytes']:5.0f} MB; scores within {found['score']:.3f}, "
            f"masks {found['mask_iou']:.1%} the same; {system['summary']}"
        )
    failures = sum(row["failures"] for row in rows)
    answers = sum(row["answers"] for row in rows)
    busiest = max(row["client_cores"] for row in rows)
    lines.append(
        f"{answers} answers checked, {failures} missing or wrong. The client took at most "
        f"{busiest:.2f} of a core, which the servers could not have."
    )
    return "\n".join(lines)


CELLS: dict[str, Callable[[Row], str]] = {
    "images a second": lambda row: f"{row['images_per_second']:.2f}",
    "p50 ms": lambda row: f"{row['p50_ms']:.0f}",
    "p95 ms": lambda row: f"{row['p95_ms']:.0f}",
    "p99 ms": lambda row: f"{row['p99_ms']:.0f}",
    "server's CPU ms an image": lambda row: f"{row['server_cpu_ms']:.0f}",
}


def table(title: str, rows: Sequence[Row], cell: Callable[[Row], str]) -> list[str]:
    """One line for each system and protocol."""
    columns = sorted({row["in_flight"] for row in rows})
    lines = [f"{title:28}" + "".join(f"{column:>8}" for column in columns)]
    for lane in lanes(rows):
        mine = {row["in_flight"]: cell(row) for row in rows if lane_of(row) == lane}
        lines.append(f"{lane:28}" + "".join(f"{mine.get(column, '-'):>8}" for column in columns))
    return lines


def lanes(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(map(lane_of, rows)))


def lane_of(row: Row) -> str:
    return f"{row['system']}, {row['protocol']}"


def write_end_to_end_plot(path: Path, content: Mapping[str, Any]) -> Path:
    """Images a second, and the median and p99, over the requests in flight; returns `path`."""
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    speed, latency = figure.subplots(1, 2)
    rows = content["rows"]
    for number, lane in enumerate(lanes(rows)):
        mine = sorted((r for r in rows if lane_of(r) == lane), key=lambda r: r["in_flight"])
        counts = [row["in_flight"] for row in mine]
        look = {"color": f"C{number}", "marker": ".", "label": lane}
        speed.plot(counts, [row["images_per_second"] for row in mine], **look)
        latency.plot(counts, [row["p50_ms"] for row in mine], **look)
        latency.plot(counts, [row["p99_ms"] for row in mine], color=f"C{number}", linestyle=":")
    speed.set_ylabel("images a second")
    speed.set_ylim(bottom=0)
    latency.set_ylabel("ms: p50, and p99 dotted")
    latency.set_yscale("log")
    for axes in (speed, latency):
        _count_axis(axes, sorted({row["in_flight"] for row in rows}))
    speed.legend(frameon=False, fontsize="x-small")
    figure.suptitle(machine_line(content["machine"]).replace("; ", "\n"), fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    return path


def _count_axis(axes: Axes, counts: Sequence[int]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xticks(counts)
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("requests in flight")
    axes.grid(alpha=0.3)
