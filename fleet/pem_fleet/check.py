"""Does the simulation say what was measured? A load test's knee, or a fleet test's replicas.

    ./run simulate --check artifacts/loadtest/report.json     (of ./run loadtest --shape ladder)
    ./run simulate --check artifacts/fleet-test/report.json   (of ./run fleet-test)

From a ladder it takes what the server counted in each step (batch and time of every stage), fits
the times of the network to it and works out the knee by queueing alone. Latency that is in no stage
(client, wire, ensemble) is taken from the lowest step and added to all. Broken images, which a
load test sends on purpose, are refused by the first step and load no queue: they are left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import simpy

from pem_fleet import capacity
from pem_fleet.arrivals import stairs
from pem_fleet.autoscaler import Policy, Rules, Scaling
from pem_fleet.capacity import Goal
from pem_fleet.control import Delays, Loop
from pem_fleet.service import EveryImage
from pem_fleet.signals import demand
from pem_fleet.steps import PATH, Cost, Step, read_steps, with_costs

KNEE_TOLERANCE = 0.15
REPLICA_TOLERANCE = 0.5  # servers, on average over the run
MOST_TOLERANCE = 1  # servers: a burst of arrivals at a threshold decides
ROUNDS = 5  # of fitting
BATCHES = 1.05  # images a run on average, above which a network was seen to batch


class CheckError(ValueError):
    """The result cannot be checked; one sentence."""


def check(result: Path, repository: Path, config_name: str | None) -> tuple[bool, str]:
    """Return whether simulation and measurement agree, and a line that says how well."""
    told = json.loads(result.read_text())
    if "replicas" in told:
        return check_replicas(told, repository)
    if told.get("knee_images_per_second"):
        return check_knee(told, repository, config_name)
    raise CheckError(
        f"{result} must be the report.json of a fleet test, or of a load test that found a knee "
        "(--shape ladder)."
    )


def check_knee(
    told: Mapping[str, Any], repository: Path, config_name: str | None
) -> tuple[bool, str]:
    """Compare the knee of a load test with the simulated one."""
    settings, measured = told["settings"], float(told["knee_images_per_second"])
    whole = 1 - float(settings["broken"])  # share of images that are not broken on purpose
    rungs = [
        {**step, "rate": whole * step["rate"]}
        for step in told["steps"]
        if set(PATH) <= set(step["server"]) and step.get("verdict") != "invalid"
    ]
    if not rungs:
        raise CheckError("The load test must have read the server's counters (--metrics).")
    nearest = min(rungs, key=lambda step: abs(step["rate"] - whole * measured))
    costs = {
        name: Cost(0.0, nearest["server"][name]["compute_ms"] / 1e3)
        for name in ("pem_preprocess", "pem_postprocess")
    }
    costs["pem_network"] = Cost(0.0, 0.001)  # until it is fitted
    # The report does not say whether it was of the stand-in, whose network batches.
    batching = max(rung["server"]["pem_network"]["batch"] for rung in rungs) > BATCHES
    steps = fitted(read_steps(repository, config_name, costs, batching=batching), rungs)
    goal = Goal(
        settings["latency_goal"] / 1e3, settings["percentile"] / 100, settings["max_failures"]
    )
    overhead_s = _overhead(steps, min(rungs, key=lambda step: step["rate"]), goal)
    simulated = capacity.knee(steps, goal, overhead_s=overhead_s) / whole
    difference = simulated / measured - 1
    cost = next(step.cost for step in steps if step.name == "pem_network")
    return abs(difference) <= KNEE_TOLERANCE, (
        f"knee: measured {measured:.1f}, simulated {simulated:.1f} images a second "
        f"({difference:+.1%}, allowed {KNEE_TOLERANCE:.0%}); network {cost.fixed_s * 1e3:.1f} ms a "
        f"batch + {cost.per_image_s * 1e3:.1f} ms an image, outside the steps "
        f"{overhead_s * 1e3:.1f} ms"
    )


def fitted(steps: Sequence[Step], rungs: Sequence[Mapping[str, Any]]) -> tuple[Step, ...]:
    """Return the steps with the network's cost fitted to what the server counted at each rate.

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


def check_replicas(told: Mapping[str, Any], repository: Path) -> tuple[bool, str]:
    """Compare how many servers a fleet test ran with how many the simulation asks for."""
    loop = _replay(told, repository)
    seconds = sum(seconds for seconds, _ in told["load"])
    at = np.arange(0.0, seconds, 1.0)
    measured = _steps_at(at, [(t, n) for t, n in told["replicas"]])
    simulated = _steps_at(at, [(moment.at, moment.asked) for moment in loop.timeline])
    apart = float(np.mean(np.abs(measured - simulated)))
    is_alike = abs(measured.max() - simulated.max()) <= MOST_TOLERANCE
    return is_alike and apart <= REPLICA_TOLERANCE, (
        f"replicas: measured {measured.min():g} to {measured.max():g}, simulated "
        f"{simulated.min():g} to {simulated.max():g}; on average {apart:.2f} apart "
        f"(allowed {REPLICA_TOLERANCE})"
    )


def _replay(told: Mapping[str, Any], repository: Path) -> Loop:
    costs = {name: Cost(*told["costs"][name]) for name in PATH}
    steps = read_steps(repository, None, costs, batching=True)  # it ran the stand-in
    rate = stairs([(seconds, rate) for seconds, rate in told["load"]])
    peak = max(rate for _, rate in told["load"])
    seconds = sum(seconds for seconds, _ in told["load"])
    clock = simpy.Environment()
    service = EveryImage(clock, steps, 1.0, rate, peak, seconds, seed=int(told["seed"]))
    scaling = scaling_from(told["scaling"])
    delays = Delays(0.0, told["start_s"], told["scrape_s"], told["sync_s"])
    signal = demand(told["threshold"], told["window_s"])
    loop = Loop(clock, service, scaling, signal, delays, start=scaling.minimum)
    clock.run(until=seconds)
    return loop


def scaling_from(told: Mapping[str, Any]) -> Scaling:
    """Return the rules that a report wrote by dataclasses.asdict."""

    def rules(one: Mapping[str, Any]) -> Rules:
        return Rules(**{**one, "policies": tuple(Policy(**policy) for policy in one["policies"])})

    return Scaling(told["minimum"], told["maximum"], rules(told["up"]), rules(told["down"]))


def _steps_at(at: np.ndarray[Any, Any], changes: Sequence[tuple[float, int]]) -> Any:
    """The value that holds at each time; the first one before all changes."""
    times = [time for time, _ in changes]
    places = np.clip(np.searchsorted(times, at, side="right") - 1, 0, None)
    return np.array([count for _, count in changes])[places]


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
    seen = capacity.run(steps, rate, 1.0).counters
    cost = next(step.cost for step in steps if step.name == "pem_network")
    if not (seen.batched and cost.per_image_s):
        return 1.0
    weighted = (seen.compute_s / seen.batched - cost.fixed_s) / cost.per_image_s
    return weighted / (seen.batched / seen.batches)


def _overhead(steps: Sequence[Step], lowest: Mapping[str, Any], goal: Goal) -> float:
    simulated = capacity.run(steps, lowest["rate"], goal.seconds).quantile(0.5)
    return float(max(lowest["p50_ms"] / 1e3 - simulated, 0.0))
