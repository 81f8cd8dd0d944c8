"""The numbers of one fleet test: the manifests', on a shorter time scale, and its load's."""

import argparse
from dataclasses import dataclass, replace

from pem_fleet.queueing.knee import Goal, find_knee
from pem_fleet.queueing.served_steps import Cost, read_steps
from pem_fleet.rehearsal import cluster_manifests as manifests
from pem_fleet.rehearsal.autoscaler import SYNC_S, Scaling, scaled
from pem_fleet.rehearsal.cluster_manifests import ServerLife, Trigger
from pem_fleet.rehearsal.haproxy import Ports
from pem_fleet.rehearsal.timeline import Plan
from pem_loadtest.capacity import THRESHOLD_SHARE
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
    time_scale: float
    seed: int
    slots: tuple[Ports, ...]
    front: Ports

    @property
    def sync_s(self) -> float:
        """Seconds between two decisions."""
        return SYNC_S / self.time_scale


def read_setup(options: argparse.Namespace) -> Setup:
    """The manifests' numbers on a shorter time scale; the stub network's capacity is simulated."""
    objects = manifests.render(options.manifests)
    scaling, trigger = manifests.read_scaling(objects)
    cost = Cost(options.cost[0] / 1e3, options.cost[1] / 1e3)
    goal = Goal(options.goal / 1e3, 0.95)
    steps = read_steps(options.repository, None, {**SMALL, "pem_network": cost}, batching=True)
    most = options.capacity or find_knee(steps, goal)
    if not most:
        raise ValueError(f"the stub network never answers within {options.goal:g} ms: raise --goal")
    threshold = round(THRESHOLD_SHARE * most, 2)
    scaling = replace(scaling, maximum=min(scaling.maximum, options.most))
    shares = (options.low, options.high, options.low)
    load_steps = tuple(
        (round(share * options.seconds, 1), round(rate * threshold, 2))
        for share, rate in zip(SHARES, shares, strict=True)
    )
    ports = iter(free_ports(3 * scaling.maximum + 4))
    slots = tuple(Ports(next(ports), next(ports), next(ports)) for _ in range(scaling.maximum))
    return Setup(
        scaled(scaling, options.time_scale),
        Trigger(trigger.query, threshold),
        manifests.read_life(objects),
        Plan(load_steps, threshold, scaling.minimum, scaling.maximum, options.goal / 1e3, 0),
        cost,
        options.time_scale,
        options.seed,
        slots,
        Ports(next(ports), next(ports), next(ports)),
    )
