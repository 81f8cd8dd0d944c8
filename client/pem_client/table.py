"""Detections as a table for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the result prints itself with this table
    from ._result import Detection, Detections

__all__ = ["format_table", "short_label"]

_HEADER = ("label", "score", "box (x1 y1 x2 y2)", "share")


def format_table(detections: Detections) -> str:
    """One line a segment: label, score, box in pixels, share of the image. Below, the times.

    Of a label with synonyms ("road, route") the first stands here, as in the overlay.
    """
    rows = [_HEADER, *(_row(found) for found in detections)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADER))]
    lines = [
        f"{label:<{widths[0]}}  {score:>{widths[1]}}  {box:<{widths[2]}}  {share:>{widths[3]}}"
        for label, score, box, share in rows
    ]
    if not len(detections):
        lines = ["nothing found above the threshold"]
    if detections.latency:
        lines.append(_times(detections.latency))
    return "\n".join(lines)


def short_label(label: str) -> str:
    """The first of a label's synonyms: "road" of "road, route"."""
    return label.partition(",")[0]


def _row(found: Detection) -> tuple[str, str, str, str]:
    box = " ".join(f"{round(edge):4d}" for edge in found.bbox)
    return short_label(found.label), f"{found.conf:.3f}", box, f"{found.mask.mean():.1%}"


def _times(latency: dict[str, float]) -> str:
    steps = (f"{step} {seconds * 1000:.1f} ms" for step, seconds in latency.items())
    return ", ".join(steps)
