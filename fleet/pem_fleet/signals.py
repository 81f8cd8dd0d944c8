"""What to scale on: our demand, and the formulas of public Triton charts, from the same counters.

Every signal ends as a total and the share of one replica, so that the autoscaler's formula is the
same for all: a mean over replicas (metric type Pods) is its value times the ready replicas, which
is what the controller multiplies it by.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

BACKLOG_HORIZON_S = 30.0  # as in the recording rule: what waits is to be gone within this


@dataclass(frozen=True)
class Window:
    """The counters of the whole fleet over a window, as rates, and what waited lately."""

    offered: float  # images a second, refused ones too: what a gateway counts
    accepted: float  # images a second, answered by the first step
    batched: float  # images a second, into batches of the network
    batches: float  # a second
    queue: float  # seconds of waiting before the network, a second
    compute: float  # seconds of the network, a second, charged to each image of a batch
    busy: float  # processes of the network at work, on average
    pending: float  # images that wait in any step
    ready: int  # replicas


@dataclass(frozen=True)
class Signal:
    """`total` over all replicas, of which one replica is meant to have `threshold`."""

    name: str
    origin: str
    total: Callable[[Window], float]
    threshold: float
    window_s: float


def demand(threshold: float, window_s: float = 60.0) -> Signal:
    """Return ours, the rule pem:demand_rps: all that is offered, and the backlog over 30 s.

    What is refused counts as offered: without it an overload looks no larger than what the servers
    that are there can do, and the fleet grows to it in steps (see "accepted only").
    """
    return Signal(
        "demand",
        "this project: pem:demand_rps",
        lambda w: w.offered + w.pending / BACKLOG_HORIZON_S,
        threshold,
        window_s,
    )


def public(threshold: float) -> Mapping[str, Signal]:
    """Return the formulas of public charts with their own targets; `threshold` for plain rates."""
    return {
        signal.name: signal
        for signal in (
            Signal(
                "accepted only",
                "the same without what is refused: an overload looks like a full load",
                lambda w: w.accepted + w.pending / BACKLOG_HORIZON_S,
                threshold,
                60.0,
            ),
            Signal(
                "queue time",
                "triton-inference-server/server deploy/k8s-onprem: 50 us an image",
                lambda w: w.ready * _ratio(w.queue, w.batched) * 1e6,
                50.0,
                30.0,
            ),
            Signal(
                "queue/compute",
                "triton-inference-server/tutorials TensorRT-LLM autoscaling: 1.0",
                lambda w: w.ready * _ratio(w.queue, w.compute),
                1.0,
                60.0,
            ),
            Signal(
                "queue a batch",
                "fastmachinelearning/SuperSONIC: 100 ms",
                lambda w: w.ready * _ratio(w.queue, w.batches) * 1e3,
                100.0,
                30.0,
            ),
            Signal(
                "GPU busy",
                "server deploy/gke-marketplace-app: 85%",
                lambda w: w.ready * min(_ratio(w.busy, w.ready), 1.0) * 100,
                85.0,
                60.0,
            ),
            Signal("pending", "8 waiting a replica", lambda w: w.pending, 8.0, 30.0),
        )
    }


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0 else 0.0
