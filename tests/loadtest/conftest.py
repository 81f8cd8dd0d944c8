"""What several tests of the load test need."""

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from stub_server import COST, StubServer

from pem_loadtest import coordinator as module
from pem_loadtest.coordinator import SCHEDULE, Coordinator
from pem_loadtest.counters import Counts
from pem_loadtest.options import Settings, add_options, read_settings
from pem_loadtest.samples import RECORD, SAMPLE, Samples
from pem_loadtest.sender import Schedule
from pem_server import TritonServer


@pytest.fixture
def server(stub: StubServer) -> TritonServer:
    """The real server; its stub network takes 20 ms a batch and 5 ms an image."""
    return stub.set_cost(COST)


@pytest.fixture
def measured() -> Callable[..., Samples]:
    """Makes samples from latencies in milliseconds, and from other fields."""

    def make(latencies: list[float], **others: Any) -> Samples:
        samples = np.zeros(len(latencies), SAMPLE)  # ANSWERED is 0
        for name, value in {"latency_ms": latencies, **others}.items():
            samples[name] = value
        return samples

    return make


class FakeWorkers:
    """Locust's workers and a server with one queue, 20 ms an image; each schedule ends at once.

    lateness_ms: how late everything is sent. uncounted: successes that the server does not count.
    vanishing: whether a worker disappears after each schedule.
    """

    def __init__(self, settings: Settings, workers: int = 1, **faults: Any) -> None:
        self.names: list[str | None] = [f"worker {number}" for number in range(workers)]
        self.settings = settings
        self.schedules: list[Schedule] = []
        self.counts: Counts = Counts()
        self.log: list[str] = []
        self.coordinator = Coordinator(settings, self.send, lambda: self.names, self.log.append)
        self._faults = {"lateness_ms": 0.0, "uncounted": 0, "vanishing": False} | faults
        self._received: list[Schedule] = []

    def send(self, kind: str, data: dict[str, Any], worker: str | None) -> None:
        """What locust's runner does with a message."""
        assert (kind, worker) == (SCHEDULE, self.names[len(self._received)])
        self._received.append(Schedule.from_message(data))
        if len(self._received) == len(self.names):
            received, self._received = self._received, []
            self.schedules += received
            for schedule, latencies in zip(received, self._serve(received), strict=True):
                self.coordinator.on_ended(schedule.number, self._samples(schedule, latencies))
            if self._faults["vanishing"]:
                self.names = self.names[1:]

    def _serve(self, schedules: list[Schedule]) -> list[list[float]]:
        arrivals = sorted((due, who) for who, each in enumerate(schedules) for due in each.offsets)
        free_at = 0.0
        latencies: list[list[float]] = [[] for _ in schedules]
        for due, who in arrivals:
            free_at = max(free_at, due) + 0.02
            latencies[who].append((free_at - due) * 1e3)
        key = ("nv_inference_request_success", "fai-pem-m-ade")
        self.counts[key] += len(arrivals) - self._faults["uncounted"]
        return latencies

    def _samples(self, schedule: Schedule, latencies: list[float]) -> bytes:
        late = self._faults["lateness_ms"]
        sent = zip(schedule.offsets, latencies, strict=True)
        return b"".join(RECORD.pack(due, ms + late, late, 0, 0, False) for due, ms in sent)


@pytest.fixture
def fake_workers(monkeypatch: pytest.MonkeyPatch) -> Callable[..., FakeWorkers]:
    """Make fake workers, with a coordinator that waits for nothing, from options of a run."""

    def make(*arguments: str, **behaviour: Any) -> FakeWorkers:
        parser = argparse.ArgumentParser()
        add_options(parser)
        defaults = ["--latency-goal", "200", "--seconds", "60", "--warm-up", "5"]
        settings = read_settings(parser.parse_args([*defaults, *arguments]))
        fake = FakeWorkers(settings, **behaviour)
        monkeypatch.setattr(module, "sleep", lambda _: None)
        monkeypatch.setattr(module.counters, "scrape", lambda _: fake.counts.copy())
        monkeypatch.setattr(module.counters, "_SETTLING_S", 0.0)
        return fake

    return make
