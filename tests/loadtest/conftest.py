"""What several tests of the load test need."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from pem_loadtest.samples import SAMPLE, Outcome, Samples
from pem_server import TritonServer
from pem_server.stub_network import Cost, stub_repository


@pytest.fixture(scope="session")
def server(root: Path) -> Iterator[TritonServer]:
    """The real server; its network is a stand-in that takes 20 ms a batch and 5 ms an image."""
    with (
        stub_repository(root / "model_repository", Cost(20, 5)) as repository,
        TritonServer(repository) as server,
    ):
        server.wait_until_ready()
        yield server


@pytest.fixture
def measured() -> Callable[..., Samples]:
    """Makes samples from latencies in milliseconds."""

    def make(
        latencies: list[float],
        *,
        lateness: float = 0.0,
        outcome: Outcome = Outcome.ANSWERED,
        crowded: bool = False,
    ) -> Samples:
        samples = np.zeros(len(latencies), SAMPLE)
        samples["latency_ms"] = latencies
        samples["lateness_ms"] = lateness
        samples["outcome"] = outcome
        samples["is_crowded"] = crowded
        return samples

    return make
