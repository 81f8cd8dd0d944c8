"""Scores as a table for a terminal, as JSON and as a chart, beside the model card's own numbers.

Everything is in percent, as on the card.
"""

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pemexport.segmentation_scores import Scores

Evaluation = Mapping[str, Scores]  # by kind of prediction: "served", "semantic"
CARD_TABLE = Path(__file__).with_name("card_iou.csv")
BAR_COLORS, CARD_COLOR = ("#1f6feb", "#e3893b"), "#b8bec6"


@dataclass(frozen=True)
class CardRow:
    """A class, 0-based, and the card's IoU on ADE20K's validation images, in percent."""

    class_id: int
    name: str
    iou: float

    @property
    def short_name(self) -> str:
        """The first of its synonyms."""
        return self.name.partition(",")[0]


def card_rows() -> list[CardRow]:
    """All 150 classes, by class id."""
    with CARD_TABLE.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        return [CardRow(int(row["class_id"]), row["name"], float(row["iou"])) for row in rows]


def card_miou() -> float:
    """The mean over the classes, in percent."""
    rows = card_rows()
    return sum(row.iou for row in rows) / len(rows)


def format_table(evaluation: Evaluation) -> str:
    """One line for each class in the labels, then the means; a column for each kind."""
    names = list(evaluation)
    lines = [_line("class", "pixels", [f"IoU {n}" for n in names], [f"acc. {n}" for n in names])]
    pixels = next(iter(evaluation.values())).pixels
    for row in card_rows():
        if pixels[row.class_id]:
            lines.append(
                _line(
                    f"{row.class_id:3d} {row.short_name}",
                    f"{pixels[row.class_id] / pixels.sum():.2%}",
                    [_percent(scores.iou[row.class_id]) for scores in evaluation.values()],
                    [_percent(scores.accuracy[row.class_id]) for scores in evaluation.values()],
                    _percent(row.iou / 100),
                )
            )
    ious, accuracies = (
        [_percent(getattr(scores, name)) for scores in evaluation.values()]
        for name in ("miou", "mean_accuracy")
    )
    mean = f"mean of {int((pixels > 0).sum())} classes"
    lines += ["", _line(mean, "", ious, accuracies, f"{card_miou():.2f} (150)")]
    shares = [_percent(scores.pixel_accuracy) for scores in evaluation.values()]
    return "\n".join([*lines, _line("pixel accuracy", "", [""] * len(names), shares, "")])


def as_json(model: str, data: str, images: int, evaluation: Evaluation) -> dict[str, Any]:
    """The same as plain values; null for classes that are nowhere in the labels."""
    return {
        "model": model,
        "data": data,
        "images": images,
        "card_miou": card_miou(),
        "readings": {name: _scores_as_json(scores) for name, scores in evaluation.items()},
    }


def _scores_as_json(scores: Scores) -> dict[str, Any]:
    means = ("miou", "mean_accuracy", "pixel_accuracy")
    return {
        **{name: _number(getattr(scores, name)) for name in means},
        "classes": [
            {
                "class_id": row.class_id,
                "name": row.name,
                "pixels": int(scores.pixels[row.class_id]),
                "iou": _number(scores.iou[row.class_id]),
                "accuracy": _number(scores.accuracy[row.class_id]),
                "card_iou": row.iou,
            }
            for row in card_rows()
        ],
    }


def write_chart(path: Path, title: str, evaluation: Evaluation) -> None:
    """Draw a group of bars for each class in the labels, the card's best at the top, to `path`."""
    pixels = next(iter(evaluation.values())).pixels
    rows = sorted((row for row in card_rows() if pixels[row.class_id]), key=lambda row: row.iou)
    ids, places = [row.class_id for row in rows], np.arange(len(rows))
    bars = {f"{name}, mean {100 * s.miou:.1f}": 100 * s.iou[ids] for name, s in evaluation.items()}
    bars[f"card, on ADE20K, mean {card_miou():.1f} of 150"] = np.array([row.iou for row in rows])
    figure = Figure(figsize=(8, 1.6 + 0.3 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)  # draws without a display
    axes, height = figure.add_subplot(), 0.8 / len(bars)
    colors = [*BAR_COLORS[: len(evaluation)], CARD_COLOR]
    for number, ((label, values), color) in enumerate(zip(bars.items(), colors, strict=True)):
        axes.barh(places + 0.4 - height * (number + 0.5), values, height, label=label, color=color)
    axes.set_yticks(places, [row.short_name for row in rows])
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_xlim(0, 100)
    axes.set_xlabel("IoU, percent")
    axes.grid(axis="x", alpha=0.4)
    axes.set_axisbelow(True)
    figure.suptitle(title)
    figure.legend(loc="outside lower center", ncols=len(bars))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def _number(share: float) -> float | None:
    return None if math.isnan(share) else 100 * float(share)


def _percent(share: float) -> str:
    return "-" if math.isnan(share) else f"{100 * share:.2f}"


def _line(
    name: str, pixels: str, ious: list[str], accuracies: list[str], card: str = "card"
) -> str:
    cells = "".join(f"  {cell:>13}" for cell in [*ious, *accuracies])
    return f"{name:<24}{pixels:>8}{cells}  {card:>11}".rstrip()
