"""`./run simulate`: the runs, in the order in which they decide."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from pem_fleet import capacity, manifests, sizing
from pem_fleet.capacity import Goal
from pem_fleet.check import check
from pem_fleet.control import Delays
from pem_fleet.plots import draw_simulation
from pem_fleet.report import table, write_json
from pem_fleet.service import Table
from pem_fleet.signals import demand
from pem_fleet.sizing import Fleet, Outcome
from pem_fleet.steps import PATH, T4_COSTS, Cost, Step, read_steps


def simulate(options: argparse.Namespace) -> int:
    """Size a fleet, or with --check compare with a measurement; the exit code."""
    if options.check:
        agrees, line = check(options.check, options.repository, _config_of_check(options))
        print(line)
        return 0 if agrees else 1
    _report(options, read_fleet(options))
    return 0


def read_fleet(options: argparse.Namespace) -> Fleet:
    """Return the servers that the repository describes under the manifests' autoscaler."""
    steps = read_steps(options.repository, options.config, _costs(options))
    goal = Goal(options.goal / 1e3, options.percentile / 100)
    scaling, _ = manifests.read_scaling(manifests.render(options.manifests))
    most = capacity.knee(steps, goal, seed=options.seed)
    if not most:
        raise ValueError(
            f"One server cannot answer within {options.goal:g} ms at any rate: allow more (--goal)."
        )
    delays = Delays(options.machine, options.load, warm_share=options.warm / 100)
    table = Table(steps, goal.seconds, options.seed)
    return Fleet(steps, table, most, scaling, delays, options.price)


def _report(options: argparse.Namespace, fleet: Fleet) -> None:
    load = sizing.day_with_crowds(options.peak, options.hours * 3600)
    _say(f"one server: {_steps_told(fleet.steps)}")
    _say(f"capacity within {options.goal:g} ms: {fleet.capacity:.1f} images a second and server")
    _say("\nour signal at several targets ...")
    targets = sizing.compare_targets(fleet, load)
    print(table(targets))
    chosen = sizing.pick_target(targets, options.allowed / 100)
    _say(_told_choice(chosen, options.allowed))
    _say("\nsignals, ours at that target, the others at their own ...")
    fleet = sizing.sized(fleet, load, chosen.target)
    signals = sizing.compare_signals(fleet, load, chosen.target)
    print(table(signals))
    _say("\nsizes ...")
    sizes = [_size(fleet, rate, options, chosen.target) for rate in options.rates]
    print(table(sizes))
    facts = _facts(options, fleet, chosen)
    _tell_bounds(facts)
    groups = {"targets": targets, "signals": signals, "sizes": sizes}
    write_json(options.output / "report.json", facts, groups)
    draw_simulation(options.output / "simulation.png", signals[0], signals, targets)
    print(f"\n{options.output / 'report.json'}\n{options.output / 'simulation.png'}")


def _size(fleet: Fleet, rate: float, options: argparse.Namespace, target: float) -> Outcome:
    load = sizing.day_with_crowds(rate, options.hours * 3600)
    signal = demand(target * fleet.capacity)
    one = sizing.sized(fleet, load, target)
    return sizing.simulate(one, load, signal, target=target, seed=options.seed)


def _facts(options: argparse.Namespace, fleet: Fleet, chosen: Outcome) -> dict[str, Any]:
    states, trigger = manifests.read_scaling(manifests.render(options.manifests))
    return {
        "goal_ms": options.goal,
        "percentile": options.percentile,
        "steps": {step.name: [step.cost.fixed_s, step.cost.per_image_s] for step in fleet.steps},
        "capacity_images_per_second": round(fleet.capacity, 1),
        "target": chosen.target,
        "threshold_images_per_second": round(chosen.target * fleet.capacity, 1),
        "minimum": fleet.scaling.minimum,
        "maximum": fleet.scaling.maximum,
        "manifests": {
            "threshold": trigger.threshold,
            "minimum": states.minimum,
            "maximum": states.maximum,
        },
        "delays": vars(fleet.delays),
        "price": fleet.price,
        "seed": options.seed,
    }


def _tell_bounds(facts: dict[str, Any]) -> None:
    states = facts["manifests"]
    print(
        f"\nfor this day: threshold {facts['threshold_images_per_second']:g} images a second and "
        f"server, {facts['minimum']} to {facts['maximum']} servers "
        f"(the manifests: {states['threshold']:g}, {states['minimum']} to {states['maximum']})"
    )


def _told_choice(chosen: Outcome, allowed: float) -> str:
    if chosen.missed > allowed / 100:
        return (
            f"no target misses at most {allowed:g}%: {chosen.target:.0%} misses least; keep "
            "machines warm (--warm), or make them start faster (--machine)"
        )
    return f"{chosen.target:.0%} is the cheapest that misses at most {allowed:g}%"


def _steps_told(steps: tuple[Step, ...]) -> str:
    return ", ".join(
        f"{step.name} {step.cost.fixed_s * 1e3:g} ms + {step.cost.per_image_s * 1e3:g} ms an image "
        f"x {step.processes}"
        for step in steps
    )


def _costs(options: argparse.Namespace) -> dict[str, Cost]:
    given = {name: Cost(fixed / 1e3, each / 1e3) for name, fixed, each in options.cost}
    unknown = sorted(set(given) - set(PATH))
    if unknown:
        raise ValueError(f"--cost names {', '.join(PATH)}, not {', '.join(unknown)}.")
    return {**T4_COSTS, **given}


def _config_of_check(options: argparse.Namespace) -> str | None:
    """A measurement on this machine ran the plain configuration, unless one is named."""
    return None if options.config == "t4" else str(options.config)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
