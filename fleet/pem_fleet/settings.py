"""The numbers of one fleet test: the manifests', made quicker, and those of its load."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pem_fleet import capacity, manifests
from pem_fleet.autoscaler import SYNC_S, Scaling, quickened
from pem_fleet.manifests import Manifest, ServerLife, Trigger
from pem_fleet.proxy import Front, Slot
from pem_fleet.steps import Cost, read_steps
from pem_fleet.timeline import Plan
from pem_server.ports import free_ports

SHARES = (0.15, 0.3, 0.55)  # of the time: low, high, low again
SMALL = {"pem_preprocess": Cost(0.0, 0.008), "pem_postprocess": Cost(0.0, 0.003)}  # small images


@dataclass(frozen=True)
class Setup:
    """All numbers of one run."""

    scaling: Scaling
    trigger: Trigger
    life: ServerLife
    plan: Plan
    cost: Cost
    factor: float
    seed: int
    slots: tuple[Slot, ...]
    front: Front

    @property
    def sync_s(self) -> float:
        """Seconds between two decisions."""
        return SYNC_S / self.factor


def read_setup(options: argparse.Namespace) -> Setup:
    """Return the manifests' numbers, made quicker, for a stand-in whose capacity is simulated."""
    objects = manifests.render(options.manifests)
    scaling, trigger = manifests.read_scaling(objects)
    cost = Cost(options.cost[0] / 1e3, options.cost[1] / 1e3)
    goal = capacity.Goal(options.goal / 1e3, 0.95)
    steps = read_steps(options.repository, None, {**SMALL, "pem_network": cost}, batching=True)
    most = options.capacity or capacity.knee(steps, goal)
    if not most:
        raise ValueError(
            f"The stand-in never answers within {options.goal:g} ms: allow more (--goal)."
        )
    threshold = round(_target(objects, trigger) * most, 2)
    scaling = replace(scaling, maximum=min(scaling.maximum, options.most))
    shares = (options.low, options.high, options.low)
    load_steps = tuple(
        (round(share * options.seconds, 1), round(rate * threshold, 2))
        for share, rate in zip(SHARES, shares, strict=True)
    )
    ports = iter(free_ports(3 * scaling.maximum + 4))
    slots = tuple(Slot(next(ports), next(ports), next(ports)) for _ in range(scaling.maximum))
    return Setup(
        quickened(scaling, options.quicken),
        Trigger(trigger.query, threshold),
        manifests.read_life(objects),
        Plan(load_steps, threshold, scaling.minimum, scaling.maximum, options.goal / 1e3, 0),
        cost,
        options.quicken,
        options.seed,
        slots,
        Front(next(ports), next(ports), next(ports)),
    )


def _target(objects: Sequence[Manifest], trigger: Trigger) -> float:
    """The share of a server's capacity that the manifests aim for."""
    for found in objects:
        if found["kind"] == "ConfigMap" and "capacity_images_per_second" in found.get("data", {}):
            return trigger.threshold / float(found["data"]["capacity_images_per_second"])
    raise manifests.ManifestError("The ConfigMap with the capacity must be there, and is not.")
