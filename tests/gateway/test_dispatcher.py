"""What happens to requests between admission and tritonserver, with a fake server."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tritonclient.grpc.service_pb2 import ModelInferRequest

from pem_gateway.admission import Admission
from pem_gateway.backend import BackendGone
from pem_gateway.dispatcher import Dispatcher
from pem_gateway.infer_request import Work
from pem_gateway.refusal import Refusal


class FakeBackend:
    """Answers when it is told to; remembers what reached it."""

    server: object = None

    def __init__(self) -> None:
        self.back_in_s = 0.0
        self.on_lost: Callable[[], None] = lambda: None
        self.ready = asyncio.Event()
        self.ready.set()
        self.arrived: list[bytes] = []
        self.gate = asyncio.Event()
        self.deaths = 0
        self.cancelled = 0

    async def infer(self, raw: bytes) -> bytes:
        self.arrived.append(raw)
        if self.deaths:
            self.deaths -= 1
            raise BackendGone
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return raw + b"!"


def work(timeout_s: float | None = None) -> Work:
    return Work(ModelInferRequest(), "fai-pem-m-ade", 1, (), timeout_s)


def run(test: Callable[[FakeBackend, Dispatcher], Awaitable[None]]) -> None:
    async def main() -> None:
        backend: Any = FakeBackend()
        dispatcher = Dispatcher(backend, Admission(60.0), 1, lambda _: 0.0)
        await test(backend, dispatcher)

    asyncio.run(main())


async def _arrived(backend: FakeBackend, count: int) -> None:
    async with asyncio.timeout(30):
        while len(backend.arrived) < count:
            await asyncio.sleep(0.001)


def test_requests_are_answered_in_their_order() -> None:
    async def test(backend: FakeBackend, dispatcher: Dispatcher) -> None:
        tasks = [asyncio.create_task(dispatcher.submit(work(), bytes([n]), None)) for n in range(5)]
        await _arrived(backend, 1)
        assert len(backend.arrived) == 1, "one at a time is inside"
        backend.gate.set()
        assert await asyncio.gather(*tasks) == [bytes([n]) + b"!" for n in range(5)]
        assert backend.arrived == [bytes([n]) for n in range(5)]

    run(test)


def test_a_client_that_leaves_while_it_waits_costs_nothing() -> None:
    async def test(backend: FakeBackend, dispatcher: Dispatcher) -> None:
        first = asyncio.create_task(dispatcher.submit(work(), b"1", None))
        await _arrived(backend, 1)
        second = asyncio.create_task(dispatcher.submit(work(), b"2", None))
        await asyncio.sleep(0)
        second.cancel()
        third = asyncio.create_task(dispatcher.submit(work(), b"3", None))
        backend.gate.set()
        assert await asyncio.gather(first, third) == [b"1!", b"3!"]
        assert backend.arrived == [b"1", b"3"]

    run(test)


def test_tritonserver_never_sees_a_cancellation() -> None:
    async def test(backend: FakeBackend, dispatcher: Dispatcher) -> None:
        first = asyncio.create_task(dispatcher.submit(work(), b"1", None))
        await _arrived(backend, 1)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        second = asyncio.create_task(dispatcher.submit(work(), b"2", None))
        await asyncio.sleep(0.01)
        assert backend.arrived == [b"1"], "the first one still holds its place"
        backend.gate.set()
        assert await second == b"2!"
        await dispatcher.drained()
        assert backend.cancelled == 0

    run(test)


@pytest.mark.parametrize(("patience_s", "timeout_s"), [(0.02, None), (None, 0.02)])
def test_a_deadline_drops_what_waits(patience_s: float | None, timeout_s: float | None) -> None:
    async def test(backend: FakeBackend, dispatcher: Dispatcher) -> None:
        first = asyncio.create_task(dispatcher.submit(work(), b"1", None))
        await _arrived(backend, 1)
        with pytest.raises(Refusal) as caught:
            await dispatcher.submit(work(timeout_s), b"2", patience_s)
        assert caught.value.reason in ("deadline", "overload")
        backend.gate.set()
        await first
        assert backend.arrived == [b"1"]

    run(test)


def test_a_request_whose_server_died_is_sent_to_the_next() -> None:
    async def test(backend: FakeBackend, dispatcher: Dispatcher) -> None:
        backend.deaths = 1
        backend.gate.set()
        assert await dispatcher.submit(work(), b"1", None) == b"1!"
        assert backend.arrived == [b"1", b"1"]

    run(test)


def test_a_request_that_two_servers_died_of_meets_no_third() -> None:
    async def test(backend: FakeBackend, dispatcher: Dispatcher) -> None:
        backend.deaths = 5
        with pytest.raises(Refusal) as caught:
            await dispatcher.submit(work(), b"1", None)
        assert caught.value.reason == "restarting"
        assert len(backend.arrived) == 2

    run(test)


def test_while_a_server_starts_the_patient_wait_and_the_others_are_told() -> None:
    async def test(backend: FakeBackend, dispatcher: Dispatcher) -> None:
        backend.ready.clear()
        backend.back_in_s = 1.0
        backend.gate.set()
        with pytest.raises(Refusal) as caught:
            await dispatcher.submit(work(), b"1", 0.5)
        assert caught.value.reason == "restarting"
        patient = asyncio.create_task(dispatcher.submit(work(), b"2", None))
        await asyncio.sleep(0.01)
        backend.ready.set()
        assert await patient == b"2!"

    run(test)


def test_who_cannot_wait_for_the_next_server_is_told_at_once() -> None:
    async def test(backend: FakeBackend, dispatcher: Dispatcher) -> None:
        def submit(raw: bytes, patience_s: float) -> asyncio.Task[bytes]:
            return asyncio.create_task(dispatcher.submit(work(), raw, patience_s))

        inside, short, patient = submit(b"1", 20.0), submit(b"2", 10.0), submit(b"3", 29.0)
        await _arrived(backend, 1)
        backend.back_in_s = 15.0
        backend.ready.clear()
        backend.on_lost()
        with pytest.raises(Refusal) as caught:
            await short
        assert caught.value.reason == "restarting"
        assert not inside.done()
        backend.back_in_s = 25.0  # the next one could not start
        backend.on_lost()
        with pytest.raises(Refusal) as caught:
            await inside
        assert caught.value.reason == "restarting"
        backend.ready.set()
        backend.gate.set()
        assert await patient == b"3!"
        assert backend.arrived == [b"1", b"3"]

    run(test)


def test_what_nobody_waits_for_is_not_sent_to_the_next_server() -> None:
    async def test(backend: FakeBackend, dispatcher: Dispatcher) -> None:
        backend.ready.clear()
        first = asyncio.create_task(dispatcher.submit(work(), b"1", None))
        await asyncio.sleep(0.01)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        backend.ready.set()
        backend.gate.set()
        assert await dispatcher.submit(work(), b"2", None) == b"2!"
        assert backend.arrived == [b"2"]

    run(test)


def test_drained_means_that_what_waits_here_is_answered_too() -> None:
    async def test(backend: FakeBackend, dispatcher: Dispatcher) -> None:
        tasks = [asyncio.create_task(dispatcher.submit(work(), bytes([n]), None)) for n in range(3)]
        await _arrived(backend, 1)
        drained = asyncio.create_task(dispatcher.drained())
        await asyncio.sleep(0.1)
        assert not drained.done()
        backend.gate.set()
        await drained
        assert [await task for task in tasks] == [bytes([n]) + b"!" for n in range(3)]

    run(test)
