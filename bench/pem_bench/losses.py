"""Where we lose: every figure of a run in which another system is better, or a goal is missed."""

from collections.abc import Mapping, Sequence
from typing import Any

from .share import RATIO_GOAL, SHARE_GOAL
from .systems import OURS

MARGIN = 0.03  # what is closer than this may be noise
FIGURES = {  # key, name, unit, whether more is better
    "images_per_second": ("images a second", "", True),
    "p50_ms": ("p50", " ms", False),
    "p95_ms": ("p95", " ms", False),
    "p99_ms": ("p99", " ms", False),
    "server_cpu_ms": ("the server's processor time an image", " ms", False),
}

Row = Mapping[str, Any]


def losses(contents: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A sentence for each loss; `contents` are the JSON reports by verb, those that there are."""
    found = []
    if "end-to-end" in contents:
        found += end_to_end_losses(contents["end-to-end"])
    if "share" in contents:
        found += share_losses(contents["share"])
    if "memory" in contents:
        found += memory_losses(contents["memory"])
    return found


def end_to_end_losses(content: Mapping[str, Any]) -> list[str]:
    """Our better protocol against the best other system, for each figure."""
    found = []
    for key, (name, unit, more_is_better) in FIGURES.items():
        places = []
        for in_flight in sorted({row["in_flight"] for row in content["rows"]}):
            rows = [row for row in content["rows"] if row["in_flight"] == in_flight]
            ours = best([row for row in rows if row["system"] == OURS], key, more_is_better)
            other = best([row for row in rows if row["system"] != OURS], key, more_is_better)
            if ours and other and is_worse(ours[key], other[key], more_is_better):
                digits = 1 if more_is_better else 0
                places.append(
                    f"with {in_flight} in flight {other['system']} has {other[key]:.{digits}f}"
                    f"{unit}, we {ours[key]:.{digits}f}{unit} ({ours['protocol']})"
                )
        if places:
            found.append(f"{name}: {'; '.join(places)}.")
    systems = content["systems"]
    for system, facts in systems.items():
        if OURS in systems and is_worse(systems[OURS]["megabytes"], facts["megabytes"], False):
            found.append(
                f"memory: {system} holds {facts['megabytes']:.0f} MB, we "
                f"{systems[OURS]['megabytes']:.0f} MB."
            )
    return found


def best(rows: Sequence[Row], key: str, more_is_better: bool) -> Row | None:
    if not rows:
        return None
    return (max if more_is_better else min)(rows, key=lambda row: row[key])


def is_worse(ours: float, other: float, more_is_better: bool) -> bool:
    """Whether ours is worse by more than the margin."""
    return other > ours * (1 + MARGIN) if more_is_better else other < ours * (1 - MARGIN)


def share_losses(content: Mapping[str, Any]) -> list[str]:
    share, found = content["share"], []
    if share["share"] < SHARE_GOAL:
        found.append(
            f"the server's share: {share['share']:.1%} of what is reachable beside the bare "
            f"engine, the goal is {SHARE_GOAL:.0%}."
        )
    for name, paced in content["paced"].items():
        when = f"at 80% load, {name} arrivals"
        if paced["ratio"] >= RATIO_GOAL:
            found.append(
                f"p99 {when}: {paced['ratio']:.1f} times the median, the goal is under "
                f"{RATIO_GOAL:g}; an ideal server would have {paced['ideal_ratio']:.1f}."
            )
        if paced["failed"]:
            found.append(f"answers {when}: {paced['failed']} of {paced['sent']} failed.")
    return found


def memory_losses(content: Mapping[str, Any]) -> list[str]:
    from .memory import does_not_grow

    network, many, found = content["runs"]["network"], content["runs"]["stand-in"], []
    if network["peak_pss_mb"] >= content["goal_mb"]:
        found.append(
            f"resident memory: {network['peak_pss_mb']:.0f} MB under load, the goal is under "
            f"{content['goal_mb']:.0f}."
        )
    if not does_not_grow(many):
        found.append(
            f"growth: {many['growth_mb']:+.1f} MB in the second half of {many['requests']} "
            "requests."
        )
    return found
