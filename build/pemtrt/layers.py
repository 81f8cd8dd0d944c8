"""The engine inspector's layers as a table.

The inspector's JSON is TensorRT's own and differs between versions: what is missing stays empty.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

LONGEST_NAME = 90  # characters; a fused layer's name lists everything that was fused
PRECISIONS = ("FP32", "FP16", "BF16", "FP8", "INT64", "INT32", "INT8", "UINT8", "BOOL")


class Layer(NamedTuple):
    """One layer of an engine, which may combine many nodes of the graph."""

    name: str
    kind: str
    precision: str  # of its outputs, such as "Half"
    output: str  # dims of the first one
    tactic: str  # the selected kernel


def layers_of(report: str) -> list[Layer]:
    """The layers in the inspector's JSON. ValueError when it is not JSON, which has happened."""
    data = json.loads(report)
    entries = data.get("Layers", []) if isinstance(data, dict) else []
    return [_layer(entry) for entry in entries]


def to_markdown(layers: list[Layer], title: str) -> str:
    """A page: the number of layers of each kind and precision, then every layer."""
    counts = Counter((layer.kind, layer.precision) for layer in layers)
    summary = _table(
        ("kind", "precision", "layers"),
        ((kind, precision, str(count)) for (kind, precision), count in counts.most_common()),
    )
    rows = _table(
        ("#", *Layer._fields),
        ((str(number), _shortened(name), *rest) for number, (name, *rest) in enumerate(layers)),
    )
    return f"# {title}\n\n{summary}\n\n{rows}\n"


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
    """FP16 for "Channel major FP16 format where channel % 8 == 0"; "Half" stays "Half"."""
    known = [word for word in text.replace(",", " ").split() if word.upper() in PRECISIONS]
    return known[0] if known else text


def _shortened(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    first, *rest = [
        f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in (head, *rows)
    ]
    return "\n".join([first, "|" + "---|" * len(head), *rest])
