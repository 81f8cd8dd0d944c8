"""Admission and dispatch before a simulated server, in virtual time."""

import asyncio
import random
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from tritonclient.grpc.service_pb2 import ModelInferRequest
from virtual_time import run_virtually

from pem_gateway.admission import Admission, loop_time
from pem_gateway.dispatcher import Dispatcher
from pem_gateway.infer_request import Work
from pem_gateway.refusal import Refusal

LIMIT_S = 5.0


class SimulatedServer:
    """A decoder and a network that takes up to `batch` images at a time, as Triton batches."""

    back_in_s = 0.0
    server: object = None

    def __init__(self, batch: int, fixed_s: float, per_image_s: float) -> None:
        self.ready = asyncio.Event()
        self.ready.set()
        self.batch, self.fixed_s, self.per_image_s = batch, fixed_s, per_image_s
        self.slower = 1.0
        self._queue: list[asyncio.Future[None]] = []
        self._arrived = asyncio.Event()
        self._task = asyncio.create_task(self._run())

    def seconds(self, images: int) -> float:
        return (self.fixed_s + images * self.per_image_s) * self.slower

    async def infer(self, raw: bytes) -> bytes:
        await asyncio.sleep(0.003)  # decoding
        future = asyncio.get_running_loop().create_future()
        self._queue.append(future)
        self._arrived.set()
        await future
        await asyncio.sleep(0.002)  # what follows the network
        return raw

    async def _run(self) -> None:
        while True:
            await self._arrived.wait()
            batch = self._queue[: self.batch]
            del self._queue[: len(batch)]
            if not batch:
                self._arrived.clear()
                continue
            await asyncio.sleep(self.seconds(len(batch)))
            for future in batch:
                future.set_result(None)


@dataclass
class Seen:
    answered: list[tuple[float, float]] = field(default_factory=list)  # (sent, took)
    refused: list[tuple[float, float]] = field(default_factory=list)

    def rate(self, since: float, until: float) -> float:
        """Answers a second."""
        done = [sent + took for sent, took in self.answered]
        return sum(since <= at < until for at in done) / (until - since)

    def took(self, since: float = 0.0, until: float = 1e9) -> list[float]:
        return [took for sent, took in self.answered if since <= sent < until]


class Simulation:
    """One server with its dispatcher, and Poisson arrivals."""

    def __init__(self, batch: int, fixed_s: float, per_image_s: float) -> None:
        self.server: Any = SimulatedServer(batch, fixed_s, per_image_s)
        self.admission = Admission(LIMIT_S, batch=batch)
        window = 4 if batch == 1 else 3 * batch
        self.dispatcher = Dispatcher(self.server, self.admission, window, lambda _: 0.003)
        self.capacity = batch / self.server.seconds(batch)
        self.seen = Seen()
        self.began = loop_time()

    async def ask(self, patience_s: float | None = None) -> None:
        work = Work(ModelInferRequest(), "fai-pem-m-ade", 1, (), None)
        began = loop_time()
        into = self.seen.refused
        try:
            await self.dispatcher.submit(work, b"", patience_s)
            into = self.seen.answered
        except Refusal:
            pass
        into.append((began - self.began, loop_time() - began))

    async def arrivals(self, rate: float, seconds: float) -> None:
        """Send Poisson arrivals, and return when the last is due."""
        rng, until, tasks = random.Random(7), loop_time() + seconds, set()
        while loop_time() < until:
            task = asyncio.create_task(self.ask())
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            await asyncio.sleep(rng.expovariate(rate))
        self.left = asyncio.gather(*tasks)


CPU, FAST_CPU, T4 = (1, 0.0, 0.5), (1, 0.0, 0.09), (8, 0.010, 0.006)


@pytest.mark.parametrize("machine", [CPU, FAST_CPU, T4], ids=["slow CPU", "CPU", "T4"])
@pytest.mark.parametrize("load", [0.5, 1.0, 5.0])
def test_what_is_accepted_is_in_time_and_the_server_stays_busy(
    machine: tuple[int, float, float], load: float
) -> None:
    async def main() -> None:
        simulation = Simulation(*machine)
        rate, seconds = load * simulation.capacity, 60.0
        await simulation.arrivals(rate, seconds)
        await simulation.left
        seen = simulation.seen
        took = seen.took()
        answered = seen.rate(5.0, seconds) / simulation.capacity
        refused = len(seen.refused) / max(1, len(seen.refused) + len(took))
        fast = [took for sent, took in seen.refused if sent > 10]
        print(
            machine,
            load,
            "answered",
            answered,
            "refused",
            refused,
            "p50, p99",
            np.percentile(took, [50, 99]),
            "late refusals",
            sum(t > 0.01 for t in fast),
        )
        assert np.percentile(took, 99) < 1.1 * LIMIT_S
        if load == 0.5:
            assert refused < 0.01
        if load == 5.0:
            assert answered > 0.95
            assert sum(each > 0.01 for each in fast) <= 0.01 * len(fast), "refused at once"

    run_virtually(main())


@pytest.mark.parametrize("seconds_of_32", [(3.0, 23.0), (23.0, 3.0)])
def test_a_machine_that_gets_slower_or_faster_is_followed(
    seconds_of_32: tuple[float, float],
) -> None:
    async def main() -> None:
        before, after = (each / 32 for each in seconds_of_32)
        simulation = Simulation(1, 0.0, before)
        await simulation.arrivals(3 / before, 30.0)
        simulation.server.slower = after / before
        await simulation.arrivals(3 / after, 60.0)
        assert simulation.admission.seconds_per_image == pytest.approx(after, rel=0.2)
        await simulation.left
        took = simulation.seen.took(since=30)
        print(seconds_of_32, "p50, p99, max", np.percentile(took, [50, 99, 100]), len(took))
        assert max(took) < 1.1 * LIMIT_S + 5 * after, "at once"
        assert np.percentile(simulation.seen.took(since=40), 99) < 1.1 * LIMIT_S
        assert simulation.seen.rate(30, 90) > 0.95 / after

    run_virtually(main())


def test_an_idle_server_takes_the_next_image_whatever_was_learned() -> None:
    async def main() -> None:
        simulation = Simulation(1, 0.0, 0.1)
        simulation.server.slower = 300.0
        await simulation.ask()
        simulation.server.slower = 1.0
        for _ in range(30):
            await simulation.ask()
        assert len(simulation.seen.refused) <= 1
        assert simulation.admission.seconds_per_image == pytest.approx(0.1, rel=0.1)

    run_virtually(main())


def test_clients_in_a_hurry_are_refused_and_do_not_delay_others() -> None:
    async def main() -> None:
        simulation = Simulation(1, 0.0, 0.1)
        for _ in range(10):
            await simulation.ask()
        asks = [asyncio.create_task(simulation.ask(0.35)) for _ in range(20)]
        await asyncio.gather(*asks)
        took = simulation.seen.took()[10:]
        assert 2 <= len(took) <= 3
        assert len(simulation.seen.refused) == 20 - len(took)
        assert simulation.admission.images == 0

    run_virtually(main())
