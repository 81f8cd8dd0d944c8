"""What the engine inspector tells of the layers, as a table.

The inspector's JSON is TensorRT's own and differs between versions: what is not there stays empty.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

COLUMNS = ("#", "layer", "kind", "precision", "output", "tactic")
LONGEST_NAME = 90  # characters; a fused layer's name lists all that it was made of


@dataclass(frozen=True)
class Layer:
    """One layer of an engine, which may stand for many nodes of the graph."""

    name: str
    kind: str
    precision: str  # of its outputs, such as "Half"
    output: str  # dims of the first one
    tactic: str  # the kernel that was chosen


def layers_of(report: str) -> list[Layer]:
    """The layers in the inspector's JSON. ValueError when it is not JSON, which has happened."""
    data = json.loads(report)
    entries = data.get("Layers", []) if isinstance(data, dict) else []
    return [_layer(entry) for entry in entries]


def to_markdown(layers: list[Layer], title: str) -> str:
    """A page: how many layers of each kind and precision, and then every layer."""
    counts = Counter((layer.kind, layer.precision) for layer in layers)
    summary = [("kind", "precision", "layers")]
    summary += [(kind, precision, str(count)) for (kind, precision), count in counts.most_common()]
    rows = [COLUMNS]
    for number, layer in enumerate(layers):
        name = (
            layer.name if len(layer.name) <= LONGEST_NAME else layer.name[: LONGEST_NAME - 1] + "…"
        )
        rows.append((str(number), name, layer.kind, layer.precision, layer.output, layer.tactic))
    return f"# {title}\n\n{_table(summary)}\n\n{_table(rows)}\n"


def _layer(entry: Any) -> Layer:
    if not isinstance(entry, dict):  # engines built without detailed profiling have names only
        return Layer(str(entry), "", "", "", "")
    outputs = [output for output in entry.get("Outputs", []) if isinstance(output, dict)]
    formats = [str(o.get("Format/Datatype") or o.get("Datatype") or "") for o in outputs]
    return Layer(
        name=str(entry.get("Name", "")),
        kind=str(entry.get("LayerType", "")),
        precision=", ".join(dict.fromkeys(_precision(text) for text in formats if text)),
        output=" x ".join(map(str, outputs[0].get("Dimensions", []))) if outputs else "",
        tactic=str(entry.get("TacticName") or entry.get("TacticValue") or ""),
    )


def _precision(text: str) -> str:
    """ "Channel major FP16 format where channel % 8 == 0" says FP16; "Half" is a name already."""
    words = text.replace(",", " ").split()
    known = [word for word in words if word.upper() in PRECISIONS]
    return known[0] if known else text


PRECISIONS = ("FP32", "FP16", "BF16", "FP8", "INT64", "INT32", "INT8", "UINT8", "BOOL")


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    head, *body = [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows]
    return "\n".join([head, "|" + "---|" * len(rows[0]), *body])
