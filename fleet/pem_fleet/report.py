"""The results of a simulation as tables for people and as JSON for machines."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pem_fleet.sizing import Outcome

COLUMNS = (
    ("load", "{0.load}"),
    ("peak/s", "{0.peak:g}"),
    ("signal", "{0.signal}"),
    ("target", "{0.target:.2f}"),
    ("missed", "{0.missed:.2%}"),
    ("refused", "{0.refused:.2%}"),
    ("GPU-h", "{0.gpu_hours:.0f}"),
    ("least", "{0.least_hours:.0f}"),
    ("USD", "{0.cost:.0f}"),
    ("most", "{0.most_replicas}"),
    ("changes", "{0.rescales}"),
    ("model", "{0.form}"),
)


def table(outcomes: Sequence[Outcome]) -> str:
    """Return one line an outcome, in columns."""
    rows = [[name for name, _ in COLUMNS]]
    for outcome in outcomes:
        cells = [form.format(outcome) for _, form in COLUMNS]
        if not outcome.target:
            cells[3] = "its own"
        rows.append(cells)
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def write_json(path: Path, facts: dict[str, Any], groups: Mapping[str, Sequence[Outcome]]) -> None:
    """Write the facts and every outcome, timelines thinned to about 500 moments."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        **facts,
        **{name: [_plain(outcome) for outcome in outcomes] for name, outcomes in groups.items()},
    }
    path.write_text(json.dumps(content, indent=1) + "\n")


def _plain(outcome: Outcome) -> dict[str, Any]:
    plain = asdict(outcome)
    plain["timeline"] = plain["timeline"][:: max(len(outcome.timeline) // 500, 1)]
    return plain
