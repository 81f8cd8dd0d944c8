"""A run's history as an image: the loss of each step, and the mIoU where it was measured."""

import json
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

WINDOW = 50  # steps whose mean is drawn: single batches differ too much to read
LOSS_COLOUR, MIOU_COLOUR = "#8a93a0", "#1f6feb"


def write_curve(path: Path, history: Path) -> None:
    """Draw `history`, the history.jsonl of a run, to `path` (PNG, or what the suffix says)."""
    lines = [json.loads(line) for line in history.read_text(encoding="utf-8").splitlines()]
    losses, mious = (_series(lines, name) for name in ("loss", "miou"))
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    FigureCanvasAgg(figure)  # draws without a display
    axes = figure.add_subplot()
    axes.plot(*running_mean(losses, WINDOW), color=LOSS_COLOUR)
    axes.set_xlabel("step")
    axes.set_ylabel(f"loss, mean of {WINDOW} steps", color=LOSS_COLOUR)
    axes.grid(alpha=0.4)
    right = axes.twinx()
    right.plot(*mious, "o-", color=MIOU_COLOUR)
    right.set_ylabel("mIoU on the validation photographs", color=MIOU_COLOUR)
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


def _series(lines: list[dict[str, float]], name: str) -> NDArray[np.float64]:
    """Steps and values (2, N) of the lines that hold `name`."""
    found = [(line["step"], line[name]) for line in lines if name in line]
    return np.array(found, np.float64).reshape(-1, 2).T
