"""The log of a training run: history.jsonl for programs, TensorBoard and a curve for people.

Each line of the history is one step, or one evaluation, numbered by the steps done. A resumed run
drops what was written after its checkpoint, and writes the same again.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

from pem_client import class_colour

WINDOW = 50  # steps whose mean is drawn: single batches differ too much to read
LOSS_COLOR, MIOU_COLOR = "#8a93a0", "#1f6feb"

Pixels = NDArray[np.uint8]


class RunLog:
    """The writers of one run, from the first process only; a context manager."""

    def __init__(self, folder: Path, steps_done: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        history = folder / "history.jsonl"
        kept = _lines_until(history, steps_done)
        self._history = history.open("w", encoding="utf-8")
        self._history.writelines(kept)
        self._history.flush()
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=steps_done + 1)

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers that belong to `step`: losses, rates, scores. What is not finite becomes null."""
        finite = {k: value if math.isfinite(value) else None for k, value in values.items()}
        self._history.write(json.dumps({"step": step, **finite}) + "\n")
        self._history.flush()
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def add_image(self, step: int, name: str, pixels: Pixels) -> None:
        """An image (H, W, 3)."""
        self._board.add_image(name, pixels, step, dataformats="HWC")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._history.close()
        self._board.close()


def _lines_until(history: Path, steps_done: int) -> list[str]:
    """The lines of the first `steps_done` steps; a line that was cut off ends the file."""
    kept: list[str] = []
    if history.is_file():
        for line in history.read_text(encoding="utf-8").splitlines(keepends=True):
            if not line.endswith("\n") or json.loads(line)["step"] > steps_done:
                break
            kept.append(line)
    return kept


def side_by_side(image: Image.Image, truth: Pixels, prediction: Pixels) -> Pixels:
    """The image (H, 2 W, 3) under the colors of `truth` and of `prediction`, (H, W) labels."""
    return np.concatenate([_tint(image, labels) for labels in (truth, prediction)], axis=1)


def _tint(image: Image.Image, labels: Pixels) -> Pixels:
    """Half image, half color of the class; what has no label stays as it is."""
    colors = np.array([(0, 0, 0), *(class_colour(number) for number in range(255))], np.uint16)
    pixels = np.asarray(image, np.uint16)  # (H, W, 3)
    mixed = np.where(labels[..., None] > 0, (pixels + colors[labels]) // 2, pixels)
    return mixed.astype(np.uint8)


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
