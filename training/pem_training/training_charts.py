"""Charts: the IoU of each class beside the model card's, and the curves of a training run."""

import json
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pem_training.report import Evaluation, card_miou, card_rows

CARD_COLOR = "#b8bec6"
BAR_COLORS = ("#1f6feb", "#e3893b")
WINDOW = 50  # steps whose mean is drawn: single batches differ too much to read
LOSS_COLOR, MIOU_COLOR = "#8a93a0", "#1f6feb"


def write_chart(path: Path, title: str, evaluation: Evaluation) -> None:
    """Write an image (PNG, or what the suffix says) with one group of bars for each class in the
    labels, best class of the card at the top."""
    pixels = next(iter(evaluation.values())).pixels
    rows = sorted((row for row in card_rows() if pixels[row.class_id]), key=lambda row: row.iou)
    ids = [row.class_id for row in rows]
    bars = {f"{name}, mean {100 * scores.miou:.1f}": 100 * scores.iou[ids]
            for name, scores in evaluation.items()}  # fmt: skip
    bars[f"card, on ADE20K, mean {card_miou():.1f} of 150"] = np.array([row.iou for row in rows])
    figure = Figure(figsize=(8, 1.6 + 0.3 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)  # draws without a display
    axes = figure.add_subplot()
    height = 0.8 / len(bars)
    colors = [*BAR_COLORS[: len(evaluation)], CARD_COLOR]
    for number, ((label, values), color) in enumerate(zip(bars.items(), colors, strict=True)):
        places = np.arange(len(rows)) + 0.4 - height * (number + 0.5)
        axes.barh(places, values, height, label=label, color=color)
    axes.set_yticks(np.arange(len(rows)), [row.short_name for row in rows])
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_xlim(0, 100)
    axes.set_xlabel("IoU, percent")
    axes.grid(axis="x", alpha=0.4)
    axes.set_axisbelow(True)
    figure.suptitle(title)
    figure.legend(loc="outside lower center", ncols=len(bars))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def write_curve(path: Path, history: Path) -> None:
    """Draw `history`, the history.jsonl of a run, to `path` (PNG, or what the suffix says)."""
    lines = [json.loads(line) for line in history.read_text(encoding="utf-8").splitlines()]
    losses, mious = (_series(lines, name) for name in ("loss", "miou"))
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    FigureCanvasAgg(figure)  # draws without a display
    axes = figure.add_subplot()
    axes.plot(*running_mean(losses, WINDOW), color=LOSS_COLOR)
    axes.set_xlabel("step")
    axes.set_ylabel(f"loss, mean of {WINDOW} steps", color=LOSS_COLOR)
    axes.grid(alpha=0.4)
    right = axes.twinx()
    right.plot(*mious, "o-", color=MIOU_COLOR)
    right.set_ylabel("mIoU on the validation photographs", color=MIOU_COLOR)
    right.set_ylim(0, 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def running_mean(series: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Steps and means (2, N - window + 1) of `series` (2, N), each at its last step.

    Of fewer values than `window`, the mean of them all.
    """
    steps, values = series
    window = min(window, max(len(values), 1))
    sums = np.concatenate([[0.0], values.cumsum()])
    means = (sums[window:] - sums[:-window]) / window
    return np.stack([steps[window - 1 :], means])


def _series(lines: list[dict[str, float | None]], name: str) -> NDArray[np.float64]:
    """Steps and values (2, N) of the lines that hold a number of this name."""
    points = [(line["step"], line[name]) for line in lines if line.get(name) is not None]
    return np.array(points, np.float64).reshape(-1, 2).T
