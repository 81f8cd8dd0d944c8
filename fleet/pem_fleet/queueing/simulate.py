"""`./run simulate`: what one server can take, by queueing alone; --check compares with a run."""

import argparse
import json
from typing import Any

from pem_fleet.queueing.knee import Goal, Load, find_knee, run
from pem_fleet.queueing.served_steps import PATH, T4_COSTS, Cost, read_steps
from pem_fleet.queueing.validate import validate
from pem_loadtest.capacity import THRESHOLD_SHARE
from pem_server.console import log

SHARES = (0.25, 0.5, THRESHOLD_SHARE, 0.8, 1.0, 1.25)  # of the capacity, in the table
COLUMNS = {
    "load": "5.0%",
    "rate/s": "8.1f",
    "answered/s": "12.1f",
    "p50 ms": "8.0f",
    "p95 ms": "8.0f",
    "p99 ms": "8.0f",
    "refused": "9.2%",
    "batch": "7.1f",
}


def simulate(options: argparse.Namespace) -> int:
    """Simulate one server, or with --check compare with a measurement; the exit code."""
    if options.check:
        # A measurement on this machine ran the plain configuration, unless another is named.
        config_name = None if options.config == "t4" else options.config
        agrees, line = validate(options.check, options.repository, config_name)
        print(line)
        return 0 if agrees else 1
    steps = read_steps(options.repository, options.config, _costs(options))
    for step in steps:
        fixed, each = step.cost.fixed_s * 1e3, step.cost.per_image_s * 1e3
        log(f"{step.name}: {fixed:g} ms + {each:g} ms an image, {step.processes} process(es)")
    goal = Goal(options.goal / 1e3, options.percentile / 100)
    capacity = find_knee(steps, goal, seed=options.seed)
    if not capacity:
        raise ValueError(f"no rate meets a goal of {options.goal:g} ms: raise --goal")
    loads = [run(steps, share * capacity, images=12_000, seed=options.seed) for share in SHARES]
    rows = [_row(load, share) for load, share in zip(loads, SHARES, strict=True)]
    _report(options, capacity, rows)
    return 0


def _row(load: Load, share: float) -> dict[str, float]:
    percentiles = {f"p{each} ms": 1e3 * load.quantile(each / 100) for each in (50, 95, 99)}
    return {
        "load": share,
        "rate/s": load.rate,
        "answered/s": load.throughput,
        **percentiles,
        "refused": load.loss,
        "batch": load.counters.mean_batch,
    }


def _report(options: argparse.Namespace, capacity: float, rows: list[dict[str, float]]) -> None:
    threshold = round(THRESHOLD_SHARE * capacity, 1)
    print("".join(f"{name:>{layout.partition('.')[0]}}" for name, layout in COLUMNS.items()))
    for row in rows:
        print("".join(f"{row[name]:{layout}}" for name, layout in COLUMNS.items()))
    print(
        f"capacity: {capacity:.1f} images/s within p{options.percentile:g} of {options.goal:g} ms; "
        f"threshold: {threshold:g}"
    )
    report: dict[str, Any] = {
        "goal_ms": options.goal,
        "percentile": options.percentile,
        "seed": options.seed,
        "capacity_images_per_second": round(capacity, 1),
        "threshold_images_per_second": threshold,
        "loads": rows,
    }
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    print(options.output / "report.json")


def _costs(options: argparse.Namespace) -> dict[str, Cost]:
    given = {name: Cost(fixed / 1e3, each / 1e3) for name, fixed, each in options.cost}
    if unknown := sorted(set(given) - set(PATH)):
        raise ValueError(f"--cost accepts {', '.join(PATH)}, not {', '.join(unknown)}")
    return {**T4_COSTS, **given}
