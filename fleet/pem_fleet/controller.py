"""The autoscaler's controller, with real servers in its hand."""

from __future__ import annotations

import sys
import time

from pem_client import Client, PemError
from pem_fleet.autoscaler import Autoscaler, desired
from pem_fleet.monitoring import Prometheus
from pem_fleet.pods import Pods, asks
from pem_fleet.settings import Setup
from pem_fleet.timeline import Sight


class Loop:
    """The autoscaler's controller: a query, a formula, a number of servers; again at each sync."""

    def __init__(self, setup: Setup, pods: Pods, prometheus: Prometheus) -> None:
        self.sights: list[Sight] = []
        self._setup, self._pods, self._prometheus = setup, pods, prometheus
        self._autoscaler = Autoscaler(setup.scaling)
        self._asked = setup.scaling.minimum
        self._began = time.monotonic()
        self._next = self._began
        self.began_at = time.time()

    def start(self) -> None:
        """Start the least servers and wait until they are ready and scraped."""
        _say(f"starting {self._asked} server(s) ...")
        while not self._is_up():
            self._pods.resize(self._asked)
            time.sleep(0.5)
        _say("    at   demand  asked  ready  starting  draining")
        self._began = self._next = time.monotonic()
        self.began_at = time.time()

    def _is_up(self) -> bool:
        """Whether servers are ready, a request finds its way to one, and Prometheus knows them."""
        way_in, probe = self._setup.front.http, self._setup.life.startup  # asks for the ensemble
        return (
            self._pods.count("ready") == self._asked
            and asks(probe, way_in)
            and _answers(f"grpc://127.0.0.1:{self._setup.front.grpc}")
            and self._demand() is not None
        )

    def step(self) -> None:
        """One sync, at its time."""
        time.sleep(max(0.0, self._next - time.monotonic()))
        self._next = max(self._next + self._setup.sync_s, time.monotonic())
        demand, now = self._demand(), time.monotonic()
        threshold, scaling = self._setup.trigger.threshold, self._autoscaler.scaling
        proposal = None if demand is None else desired(demand, threshold, self._asked, scaling)
        self._asked = self._autoscaler.sync(now, self._asked, [proposal])
        self._pods.resize(self._asked)
        self._note(now - self._began, demand)

    def finish(self) -> None:
        """Let servers that drain come to their end."""
        while self._pods.count("draining"):
            self._pods.resize(self._asked)
            time.sleep(0.2)
        self._pods.resize(self._asked)

    def _demand(self) -> float | None:
        return self._prometheus.value(self._setup.trigger.query)

    def _note(self, at: float, demand: float | None) -> None:
        pods = self._pods
        sight = Sight(
            at,
            demand,
            self._asked,
            pods.count("ready"),
            pods.count("starting", "unready"),
            pods.count("draining"),
        )
        before = self.sights[-1] if self.sights else None
        self.sights.append(sight)
        if (
            before is None
            or _counts(before) != _counts(sight)
            or int(at / 10) > int(before.at / 10)
        ):
            _say(_line(sight))


def _answers(url: str) -> bool:
    """Whether the model is known there; HAProxy asks its gRPC servers at a pace of its own."""
    try:
        with Client(url, timeout_s=5.0) as client:
            client.get_remote_model("fai-pem-m-ade")
    except PemError:
        return False
    return True


def _counts(sight: Sight) -> tuple[int, int, int, int]:
    return sight.asked, sight.ready, sight.starting, sight.draining


def _line(sight: Sight) -> str:
    demand = "    none" if sight.demand is None else f"{sight.demand:6.2f}/s"
    return (
        f"{sight.at:6.1f} {demand} {sight.asked:6} {sight.ready:6} {sight.starting:9} "
        f"{sight.draining:9}"
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
