"""What a fleet costs and misses under a load, which signal does best, and which target to take."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import simpy

from pem_fleet.arrivals import CROWD_FACTOR, CROWDS_AT, DAY_S, Rate, day, with_crowds
from pem_fleet.autoscaler import Scaling
from pem_fleet.control import Delays, Loop, Moment
from pem_fleet.service import EveryImage, Flow, Service, Table
from pem_fleet.signals import Signal, demand, public
from pem_fleet.steps import Step

EXACT_IMAGES = 300_000  # up to so many, each image is followed on its own
# On demand, for one T4 with 4 vCPUs: g4dn.xlarge, n1-standard-4 + T4 and NC4as_T4_v3 are all within
# a few cents of this. A number from memory, to be checked: --price.
PRICE = 0.53  # USD an hour
TARGETS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8)


@dataclass(frozen=True)
class Load:
    """A rate over time. `peak`: images a second that it never exceeds."""

    name: str
    rate: Rate
    peak: float
    seconds: float


@dataclass(frozen=True)
class Fleet:
    """Everything about the servers and the loop except the load and the signal."""

    steps: tuple[Step, ...]
    table: Table
    capacity: float  # images a second and server, within the goal
    scaling: Scaling
    delays: Delays
    price: float = PRICE


@dataclass(frozen=True)
class Outcome:
    """One run. Shares are of the images offered; hours are of machines with a GPU, as paid."""

    load: str
    peak: float
    signal: str
    target: float  # share of the capacity, 0 where the signal does not use it
    form: str  # "every image" or "flow"
    missed: float
    refused: float
    gpu_hours: float
    least_hours: float  # with the servers each second needs at its capacity, no more
    cost: float
    most_replicas: int
    rescales: int
    timeline: tuple[Moment, ...]


def day_with_crowds(peak: float, seconds: float = DAY_S) -> Load:
    """A day curve with four flash crowds, the highest of which reaches `peak`."""
    starts = [share * seconds for share in CROWDS_AT]
    return Load(
        "day with crowds", with_crowds(day(peak / CROWD_FACTOR, seconds), starts), peak, seconds
    )


def simulate(
    fleet: Fleet, load: Load, signal: Signal, *, target: float = 0.0, seed: int = 0
) -> Outcome:
    """Run one load; how exactly depends on how many images it has."""
    clock = simpy.Environment()
    exact = _images(load) <= EXACT_IMAGES
    service = _every_image(clock, fleet, load, seed) if exact else _flow(clock, fleet, load, seed)
    start = max(fleet.scaling.minimum, math.ceil(load.rate(0.0) / (0.65 * fleet.capacity)))
    loop = Loop(
        clock, service, fleet.scaling, signal, fleet.delays, start=min(start, fleet.scaling.maximum)
    )
    clock.run(until=load.seconds)
    seen = service.counters()
    offered = max(seen.offered, 1.0)
    hours = loop.machine_seconds / 3600
    return Outcome(
        load.name,
        load.peak,
        signal.name,
        target,
        "every image" if exact else "flow",
        seen.missed / offered,
        seen.refused / offered,
        hours,
        _least_hours(fleet, load),
        hours * fleet.price,
        max(moment.asked for moment in loop.timeline),
        loop.rescales,
        tuple(loop.timeline),
    )


def compare_signals(fleet: Fleet, load: Load, target: float) -> list[Outcome]:
    """Run the same load under our signal and under those of public charts."""
    threshold = target * fleet.capacity
    signals = [demand(threshold), *public(threshold).values()]
    return [
        simulate(fleet, load, signal, target=target if signal.threshold == threshold else 0.0)
        for signal in signals
    ]


def compare_targets(fleet: Fleet, load: Load, targets: Sequence[float] = TARGETS) -> list[Outcome]:
    """Run the same load with the autoscaler aiming for other shares of the capacity.

    Each within bounds of its own, or those of a low target would flatter a high one.
    """
    return [
        simulate(sized(fleet, load, target), load, demand(target * fleet.capacity), target=target)
        for target in targets
    ]


def pick_target(outcomes: Sequence[Outcome], allowed: float) -> Outcome:
    """Return the cheapest that misses no more than allowed; the one that misses least if none."""
    good = [outcome for outcome in outcomes if outcome.missed <= allowed]
    if good:
        return min(good, key=lambda outcome: outcome.cost)
    return min(outcomes, key=lambda outcome: outcome.missed)


def bounds(fleet: Fleet, lowest: float, peak: float, target: float) -> tuple[int, int]:
    """Return the least and the most replicas for loads between two rates.

    The least carries the lowest load within the target and survives the loss of one, so never under
    2. The most carries the peak within the target and a third more, for the step that overshoots.
    """
    threshold = target * fleet.capacity
    return max(2, math.ceil(lowest / threshold) + 1), max(3, math.ceil(peak / threshold * 4 / 3))


def sized(fleet: Fleet, load: Load, target: float) -> Fleet:
    """Return the fleet with bounds that fit this load, which start at its first rate."""
    lowest = min(load.rate(at) for at in range(0, int(load.seconds), 60))
    minimum, maximum = bounds(fleet, lowest, load.peak, target)
    return replace(fleet, scaling=replace(fleet.scaling, minimum=minimum, maximum=maximum))


def _every_image(clock: simpy.Environment, fleet: Fleet, load: Load, seed: int) -> Service:
    goal_s = fleet.table.goal_s
    return EveryImage(clock, fleet.steps, goal_s, load.rate, load.peak, load.seconds, seed=seed)


def _flow(clock: simpy.Environment, fleet: Fleet, load: Load, seed: int) -> Service:
    return Flow(clock, fleet.table, load.rate, load.seconds, seed)


def _images(load: Load) -> float:
    return 10 * sum(load.rate(at) for at in range(0, int(load.seconds), 10))


def _least_hours(fleet: Fleet, load: Load) -> float:
    return sum(
        math.ceil(load.rate(at) / fleet.capacity) / 360 for at in range(0, int(load.seconds), 10)
    )
