"""The IoU of each class as bars, beside the model card's."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pem_training.card import card_miou, card_rows
from pem_training.confusion import Scores

CARD_COLOUR = "#b8bec6"
READING_COLOURS = ("#1f6feb", "#e3893b")


def write_chart(path: Path, title: str, readings: Mapping[str, Scores]) -> None:
    """Write an image (PNG, or what the suffix says) with one group of bars for each class in the
    labels, best class of the card at the top."""
    pixels = next(iter(readings.values())).pixels
    rows = sorted((row for row in card_rows() if pixels[row.class_id]), key=lambda row: row.iou)
    ids = [row.class_id for row in rows]
    bars = {f"{name}, mean {100 * scores.miou:.1f}": 100 * scores.iou[ids]
            for name, scores in readings.items()}  # fmt: skip
    bars[f"card, on ADE20K, mean {card_miou():.1f} of 150"] = np.array([row.iou for row in rows])
    figure = Figure(figsize=(8, 1.6 + 0.3 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)  # draws without a display
    axes = figure.add_subplot()
    height = 0.8 / len(bars)
    colours = [*READING_COLOURS[: len(readings)], CARD_COLOUR]
    for number, ((label, values), colour) in enumerate(zip(bars.items(), colours, strict=True)):
        places = np.arange(len(rows)) + 0.4 - height * (number + 0.5)
        axes.barh(places, values, height, label=label, color=colour)
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
