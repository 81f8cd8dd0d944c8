"""Where we lose: every figure of a run in which a peer is better, or a goal is missed."""

from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

from .bench_report import OVERHEAD_GOAL, RATIO_GOAL, does_not_grow
from .systems import OURS

MARGIN = 0.03  # differences below it may be noise
FIGURES = {  # key, name, unit, whether more is better
    "images_per_second": ("images a second", "", True),
    "p50_ms": ("p50", " ms", False),
    "p99_ms": ("p99", " ms", False),
    "server_cpu_ms": ("the server's processor time an image", " ms", False),
}

Row = Mapping[str, Any]


def regressions(contents: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A sentence for each; `contents` are the JSON reports by command, as far as there are any."""
    rules = {
        "end-to-end": end_to_end_regressions,
        "overhead": overhead_regressions,
        "memory": memory_regressions,
    }
    found = []
    for command, rule in rules.items():
        if command in contents:
            found += rule(contents[command])
    return found


def end_to_end_regressions(content: Mapping[str, Any]) -> list[str]:
    """Our better protocol against the best peer, for each figure; then memory."""
    systems, rows, found = content["systems"], content["rows"], []
    for key, (name, _, _) in FIGURES.items():
        counts = sorted({row["in_flight"] for row in rows})
        places = [_place([r for r in rows if r["in_flight"] == n], key) for n in counts]
        if any(places):
            found.append(f"{name}: {'; '.join(filter(None, places))}.")
    for name, facts in systems.items():
        if OURS in systems and is_worse(systems[OURS]["megabytes"], facts["megabytes"], False):
            found.append(
                f"memory: {name} holds {facts['megabytes']:.0f} MB, we "
                f"{systems[OURS]['megabytes']:.0f} MB."
            )
    return found


def _place(rows: Sequence[Row], key: str) -> str:
    """Where the best peer beats us, among rows of one number in flight; "" where none does."""
    _, unit, more_is_better = FIGURES[key]
    figure = itemgetter(key)
    best = max if more_is_better else min
    ours, peer = (
        best((row for row in rows if (row["system"] == OURS) == is_ours), key=figure, default=None)
        for is_ours in (True, False)
    )
    if not ours or not peer or not is_worse(ours[key], peer[key], more_is_better):
        return ""
    digits = 1 if more_is_better else 0
    return (
        f"with {ours['in_flight']} in flight {peer['system']} has {peer[key]:.{digits}f}{unit}, "
        f"we {ours[key]:.{digits}f}{unit} ({ours['protocol']})"
    )


def is_worse(ours: float, other: float, more_is_better: bool) -> bool:
    """Whether ours is worse by more than the margin."""
    return other > ours * (1 + MARGIN) if more_is_better else other < ours * (1 - MARGIN)


def overhead_regressions(content: Mapping[str, Any]) -> list[str]:
    share, found = content["overhead"]["share"], []
    if share < OVERHEAD_GOAL:
        found.append(
            f"throughput: {share:.1%} of what the bare engine leaves reachable, the goal is "
            f"{OVERHEAD_GOAL:.0%}."
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


def memory_regressions(content: Mapping[str, Any]) -> list[str]:
    network, stub, found = content["runs"]["network"], content["runs"]["stub"], []
    if network["peak_mb"] >= content["goal_mb"]:
        found.append(
            f"resident memory: {network['peak_mb']:.0f} MB under load, the goal is under "
            f"{content['goal_mb']:.0f}."
        )
    if not does_not_grow(stub):
        found.append(
            f"growth: {stub['growth_mb']:+.1f} MB in the second half of {stub['requests']} "
            "requests."
        )
    return found
