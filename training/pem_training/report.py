"""Scores as a table for a terminal and as JSON, beside the model card's own numbers.

Everything is in percent, as on the card.
"""

import math
from collections.abc import Mapping
from typing import Any

from pem_training.card import card_miou, card_rows
from pem_training.confusion import Scores

Readings = Mapping[str, Scores]


def format_table(readings: Readings) -> str:
    """One line for each class in the labels, then the means; columns are the readings."""
    names = list(readings)
    lines = [_line("class", "pixels", [f"IoU {n}" for n in names], [f"acc. {n}" for n in names])]
    pixels = next(iter(readings.values())).pixels
    for row in card_rows():
        if pixels[row.class_id]:
            lines.append(
                _line(
                    f"{row.class_id:3d} {row.short_name}",
                    f"{pixels[row.class_id] / pixels.sum():.2%}",
                    [_percent(scores.iou[row.class_id]) for scores in readings.values()],
                    [_percent(scores.accuracy[row.class_id]) for scores in readings.values()],
                    _percent(row.iou / 100),
                )
            )
    ious, accuracies = (
        [_percent(getattr(scores, name)) for scores in readings.values()]
        for name in ("miou", "mean_accuracy")
    )
    mean = f"mean of {int((pixels > 0).sum())} classes"
    lines += ["", _line(mean, "", ious, accuracies, f"{card_miou():.2f} (150)")]
    shares = [_percent(scores.pixel_accuracy) for scores in readings.values()]
    return "\n".join([*lines, _line("pixel accuracy", "", [""] * len(names), shares, "")])


def as_json(model: str, data: str, images: int, readings: Readings) -> dict[str, Any]:
    """The same as plain values; null for classes that are nowhere in the labels."""
    return {
        "model": model,
        "data": data,
        "images": images,
        "card_miou": card_miou(),
        "readings": {name: _reading_as_json(scores) for name, scores in readings.items()},
    }


def _reading_as_json(scores: Scores) -> dict[str, Any]:
    return {
        "miou": _number(scores.miou),
        "mean_accuracy": _number(scores.mean_accuracy),
        "pixel_accuracy": _number(scores.pixel_accuracy),
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


def _number(share: float) -> float | None:
    return None if math.isnan(share) else 100 * float(share)


def _percent(share: float) -> str:
    return "-" if math.isnan(share) else f"{100 * share:.2f}"


def _line(
    name: str, pixels: str, ious: list[str], accuracies: list[str], card: str = "card"
) -> str:
    cells = "".join(f"  {cell:>13}" for cell in [*ious, *accuracies])
    return f"{name:<24}{pixels:>8}{cells}  {card:>11}".rstrip()
