"""The autoscaler's controller, driving real servers."""

import time

from pem_fleet.rehearsal.autoscaler import Autoscaler, desired
from pem_fleet.rehearsal.pods import Pods, probe_succeeds
from pem_fleet.rehearsal.prometheus import Prometheus
from pem_fleet.rehearsal.rehearsal_setup import Setup
from pem_fleet.rehearsal.timeline import Sample
from pem_loadtest import target_server
from pem_server.console import log


class LiveLoop:
    """A query, a formula, a number of servers; again at each sync."""

    def __init__(self, setup: Setup, pods: Pods, prometheus: Prometheus) -> None:
        self.samples: list[Sample] = []
        self._setup, self._pods, self._prometheus = setup, pods, prometheus
        self._autoscaler = Autoscaler(setup.scaling)
        self._desired = setup.scaling.minimum
        self._began = time.monotonic()
        self._next = self._began
        self.began_at = time.time()

    def start(self) -> None:
        """Start the minimum of servers and wait until they are ready and scraped."""
        log(f"starting {self._desired} server(s) ...")
        while not self._is_up():
            self._pods.resize(self._desired)
            time.sleep(0.5)
        log("    at   demand  desired  ready  starting  draining")
        self._began = self._next = time.monotonic()
        self.began_at = time.time()

    def _is_up(self) -> bool:
        """Whether servers are ready, reachable through HAProxy and known to Prometheus."""
        way_in, probe = self._setup.front.http, self._setup.life.startup  # of the ensemble
        return (
            self._pods.count("ready") == self._desired
            and probe_succeeds(probe, way_in)
            # HAProxy checks its gRPC servers at its own pace.
            and not target_server.problem(f"grpc://127.0.0.1:{self._setup.front.grpc}")
            and self._demand() is not None
        )

    def step(self) -> None:
        """One sync, at its time."""
        time.sleep(max(0.0, self._next - time.monotonic()))
        self._next = max(self._next + self._setup.sync_s, time.monotonic())
        demand, now = self._demand(), time.monotonic()
        threshold, scaling = self._setup.trigger.threshold, self._autoscaler.scaling
        proposal = None if demand is None else desired(demand, threshold, self._desired, scaling)
        self._desired = self._autoscaler.sync(now, self._desired, proposal)
        self._pods.resize(self._desired)
        self._note(now - self._began, demand)

    def finish(self) -> None:
        """Wait for the servers that drain."""
        while self._pods.count("draining"):
            self._pods.resize(self._desired)
            time.sleep(0.2)
        self._pods.resize(self._desired)

    def _demand(self) -> float | None:
        return self._prometheus.value(self._setup.trigger.query)

    def _note(self, at: float, demand: float | None) -> None:
        pods = self._pods
        sample = Sample(
            at,
            demand,
            self._desired,
            pods.count("ready"),
            pods.count("starting", "unready"),
            pods.count("draining"),
        )
        before = self.samples[-1] if self.samples else None
        self.samples.append(sample)
        if not before or before[2:] != sample[2:] or int(at / 10) > int(before.at / 10):
            log(_line(sample))


def _line(sample: Sample) -> str:
    demand = "    none" if sample.demand is None else f"{sample.demand:6.2f}/s"
    return (
        f"{sample.at:6.1f} {demand} {sample.desired:8} {sample.ready:6} {sample.starting:9} "
        f"{sample.draining:9}"
    )
