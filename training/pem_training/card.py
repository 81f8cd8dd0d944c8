"""The accuracy of each class on the model card: what a trained network is held against."""

import csv
from dataclasses import dataclass
from pathlib import Path

TABLE = Path(__file__).with_name("card_iou.csv")


@dataclass(frozen=True)
class CardRow:
    """A class, 0-based, and its IoU on the ADE20K validation images, in percent."""

    class_id: int
    name: str
    iou: float

    @property
    def short_name(self) -> str:
        """The first of its synonyms."""
        return self.name.partition(",")[0]


def card_rows() -> list[CardRow]:
    """All 150 classes, by class id."""
    with TABLE.open(encoding="utf-8", newline="") as file:
        return [
            CardRow(int(row["class_id"]), row["name"], float(row["iou"]))
            for row in csv.DictReader(file)
        ]


def card_miou() -> float:
    """The mean over the classes, in percent."""
    rows = card_rows()
    return sum(row.iou for row in rows) / len(rows)
