"""The two plots: measured speed over the batch size, and where a T4's time must go."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, StrMethodFormatter

from . import card
from .machine import machine_line
from .report import Result
from .roofline import T4, Cost, images_per_second, parts

MEMORY, ARITHMETIC, GREY = "#3b6ea5", "#d08c3a", "0.45"


def write_speed_plot(
    path: Path,
    results: Sequence[Result],
    bounds: Mapping[int, float],
    machine: dict[str, object],
    precision: str,
) -> Path:
    """Images a second of each form over the batch size, with what is known of a T4.

    `bounds` is the roofline in `precision` at each batch size; returns `path`.
    """
    figure = Figure(figsize=(8.5, 4.8), layout="constrained")
    axes = figure.subplots()
    lines = [_form_line(axes, results, form) for form in dict.fromkeys(r.form for r in results)]
    batches = sorted({result.batch for result in results})
    bound = [bounds[batch] for batch in batches]
    name = f"T4, roofline {precision}"
    lines += axes.plot(batches, bound, color=GREY, linestyle=":", marker=".", label=name)
    _level(axes, card.IMAGES_PER_SECOND, "T4, the model card")
    _level(axes, card.AIM, "T4, the aim")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(batches)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("batch size")
    axes.set_ylabel("images a second")
    axes.grid(alpha=0.3)
    axes.legend(
        handles=lines, loc="upper left", bbox_to_anchor=(1, 1), frameon=False, fontsize="small"
    )
    _title(figure, machine_line(machine).replace("; ", "\n"))
    return _save(figure, path)


def _form_line(axes: Axes, results: Sequence[Result], form: str) -> object:
    """Median, and from the first to the last tenth."""
    mine = sorted((result for result in results if result.form == form), key=lambda r: r.batch)
    middle = [result.images_per_second for result in mine]
    below = [r.images_per_second - r.batch / r.seconds.high for r in mine]
    above = [r.batch / r.seconds.low - r.images_per_second for r in mine]
    batches = [result.batch for result in mine]
    return axes.errorbar(batches, middle, (below, above), marker="o", capsize=3, label=form)


def write_roofline_plot(path: Path, costs: Sequence[Cost], batch: int, precision: str) -> Path:
    """Microseconds an image of each part of the network; returns `path`."""
    found = parts(costs, batch)
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    names = [part.section for part in found]
    memory = [part.microseconds * part.memory_bound for part in found]
    arithmetic = [part.microseconds * (1 - part.memory_bound) for part in found]
    axes.barh(names, memory, color=MEMORY, label="waits for memory")
    bars = axes.barh(names, arithmetic, left=memory, color=ARITHMETIC, label="for arithmetic")
    totals = [f"{part.microseconds:.0f}" for part in found]
    axes.bar_label(bars, totals, padding=3, fontsize="small")
    axes.invert_yaxis()
    axes.margins(x=0.08)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("µs for each image")
    axes.legend(frameon=False)
    bound = images_per_second(costs, batch)
    _title(
        figure,
        f"{T4.name}, {precision}, batch {batch}: at most {bound:.0f} images/s\n"
        f"the card's {card.IMAGES_PER_SECOND} are {card.IMAGES_PER_SECOND / bound:.0%} of it, "
        f"the aim of {card.AIM} is {card.AIM / bound:.0%}",
    )
    return _save(figure, path)


def _level(axes: Axes, height: float, name: str) -> None:
    axes.axhline(height, color=GREY, linestyle="--", linewidth=1)
    axes.annotate(
        f"{name}: {height:.0f}",
        (0, height),
        (4, 2),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        color=GREY,
        fontsize="small",
    )


def _title(figure: Figure, text: str) -> None:
    figure.suptitle(text, x=0.01, ha="left", fontsize="small")


def _save(figure: Figure, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    return path
