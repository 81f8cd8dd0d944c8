"""Validates the simulation against the knee that a load test measured.

    ./run simulate --check artifacts/loadtest/report.json     (of ./run loadtest --shape ladder)

From the ladder it takes what the server counted in each step (batch and time of every stage), fits
the cost of the network to it and computes the knee by queueing alone. Latency outside the stages
(client, wire, ensemble) is taken from the lowest step and added everywhere. The broken images of a
load test are refused by the first step and load no queue: they are left out.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pem_fleet.queueing.knee import Goal, find_knee, run
from pem_fleet.queueing.served_steps import PATH, Cost, Step, read_steps, with_costs

KNEE_TOLERANCE = 0.15
ROUNDS = 5  # of fitting
BATCHES = 1.05  # mean images a batch above which the network was batching


def validate(result: Path, repository: Path, config_name: str | None) -> tuple[bool, str]:
    """Whether simulation and measurement agree, and a line with both."""
    report = json.loads(result.read_text())
    if not report.get("knee_images_per_second"):
        raise ValueError(
            f"{result} has no knee: expected the report.json of ./run loadtest --shape ladder"
        )
    settings, measured = report["settings"], float(report["knee_images_per_second"])
    whole = 1 - float(settings["broken"])  # share of images that are not broken on purpose
    rungs = [
        {**step, "rate": whole * step["rate"]}
        for step in report["steps"]
        if set(PATH) <= set(step["server"]) and step.get("verdict") != "invalid"
    ]
    if not rungs:
        raise ValueError("the load test has no counters of the server: run it with --metrics")
    nearest = min(rungs, key=lambda step: abs(step["rate"] - whole * measured))
    costs = {
        name: Cost(0.0, nearest["server"][name]["compute_ms"] / 1e3)
        for name in ("pem_preprocess", "pem_postprocess")
    }
    costs["pem_network"] = Cost(0.0, 0.001)  # until it is fitted
    # The report does not tell the stub network, which batches, from the real one.
    batching = max(rung["server"]["pem_network"]["batch"] for rung in rungs) > BATCHES
    steps = fitted(read_steps(repository, config_name, costs, batching=batching), rungs)
    goal = Goal(
        settings["latency_goal"] / 1e3, settings["percentile"] / 100, settings["max_failures"]
    )
    lowest = min(rungs, key=lambda step: step["rate"])
    overhead_s = max(lowest["p50_ms"] / 1e3 - run(steps, lowest["rate"]).quantile(0.5), 0.0)
    simulated = find_knee(steps, goal, overhead_s=overhead_s) / whole
    difference = simulated / measured - 1
    cost = next(step.cost for step in steps if step.name == "pem_network")
    return abs(difference) <= KNEE_TOLERANCE, (
        f"knee: measured {measured:.1f}, simulated {simulated:.1f} images a second "
        f"({difference:+.1%}, allowed {KNEE_TOLERANCE:.0%}); network {cost.fixed_s * 1e3:.1f} ms a "
        f"batch + {cost.per_image_s * 1e3:.1f} ms an image, outside the steps "
        f"{overhead_s * 1e3:.1f} ms"
    )


def fitted(steps: Sequence[Step], rungs: Sequence[Mapping[str, Any]]) -> tuple[Step, ...]:
    """The steps, with the network's cost fitted to what the server counted at each rate.

    Triton charges a batch's time to each of its images, so the mean time belongs to a mean size in
    which large batches count more; it tells the plain mean only. How much larger the one is than
    the other comes from the simulation at that rate, with the times found so far, a few rounds.
    """
    times = [rung["server"]["pem_network"]["compute_ms"] / 1e3 for rung in rungs]
    plain = [rung["server"]["pem_network"]["batch"] for rung in rungs]
    found, sizes = tuple(steps), plain
    for _ in range(ROUNDS):
        found = with_costs(found, {"pem_network": _line(sizes, times)})
        ratios = [_weighted_over_plain(found, rung["rate"]) for rung in rungs]
        sizes = [size * ratio for size, ratio in zip(plain, ratios, strict=True)]
    return found


def _line(sizes: Sequence[float], times: Sequence[float]) -> Cost:
    """Least squares for time = fixed + size * each, neither below 0."""
    if max(sizes) - min(sizes) < 0.1:  # no two sizes, no line
        return Cost(0.0, float(np.mean(times) / np.mean(sizes)))
    each, fixed = np.polyfit(sizes, times, 1)
    if fixed < 0:
        return Cost(0.0, float(np.dot(sizes, times) / np.dot(sizes, sizes)))
    if each < 0:
        return Cost(float(np.mean(times)), 0.0)
    return Cost(float(fixed), float(each))


def _weighted_over_plain(steps: Sequence[Step], rate: float) -> float:
    """Mean batch size seen by an image over mean size of a batch, in the simulation."""
    seen = run(steps, rate).counters
    cost = next(step.cost for step in steps if step.name == "pem_network")
    if not (seen.batched and cost.per_image_s):
        return 1.0
    weighted = (seen.compute_s / seen.batched - cost.fixed_s) / cost.per_image_s
    return weighted / seen.mean_batch
