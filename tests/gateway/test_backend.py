"""One tritonserver after another: when the next is started, and what is said, with fake servers."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Self

import pytest

from pem_gateway import backend as backend_module
from pem_gateway.backend import Backend, BackendGone, BackOff
from pem_server import LocalServerError


class FakeServer:
    """Starts, or fails with the given sentence."""

    grpc_url = http_url = "127.0.0.1:9"
    metrics_url = "http://127.0.0.1:9/metrics"
    pid = 1

    def __init__(self, failure: str | None = None) -> None:
        self.failure, self.killed = failure, False

    def start(self) -> None:
        if self.failure:
            raise LocalServerError(self.failure)

    def is_ready(self) -> bool:
        return True

    def is_running(self) -> bool:
        return not self.killed

    def why_ended(self, what: str = "exited") -> str:
        return f"tritonserver {what} (exit code 139)."

    def kill(self) -> None:
        self.killed = True


class FakeWatch:
    """Sees the problem that a test makes."""

    found: str | None = None

    def __init__(self, pid: int) -> None: ...
    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        FakeWatch.found = None

    def problem(self) -> str | None:
        return FakeWatch.found


class NoBackOff(BackOff):
    LONGEST_S = 0.0


class World:
    """A backend whose servers fail as a list tells, and then live."""

    def __init__(self, *failures: str | None) -> None:
        self.failures, self.servers = list(failures), list[FakeServer]()
        self.log = list[str]()
        self.lost = 0
        watch: Any = FakeWatch
        self.backend = Backend(self._make, self.log.append, watch)
        self.backend.on_lost = self._count

    def _count(self) -> None:
        self.lost += 1

    def _make(self) -> FakeServer:
        self.servers.append(FakeServer(self.failures.pop(0) if self.failures else None))
        return self.servers[-1]

    async def break_it(self, reason: str) -> None:
        """Let the watch see a problem, and wait for the next server."""
        FakeWatch.found = reason
        count = len(self.servers)
        async with asyncio.timeout(60):
            while len(self.servers) == count or not self.backend.ready.is_set():
                await asyncio.sleep(0.01)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend_module, "WATCH_EVERY_S", 0.01)
    monkeypatch.setattr(backend_module, "LEAST_STALL_S", 0.1)
    monkeypatch.setattr(backend_module, "BackOff", NoBackOff)
    FakeWatch.found = None


def run(world: World, test: Callable[[World], Awaitable[None]]) -> None:
    async def main() -> None:
        supervised = asyncio.create_task(world.backend.run())
        try:
            async with asyncio.timeout(60):
                await world.backend.ready.wait()
            await test(world)
        finally:
            supervised.cancel()
            await asyncio.wait({supervised})
        assert all(server.killed for server in world.servers), "something was left behind"

    asyncio.run(main())


def test_the_pauses_double_up_to_half_a_minute_until_a_server_is_steady() -> None:
    back_off = BackOff()
    assert [back_off.after(1.0) for _ in range(8)] == [0, 1, 2, 4, 8, 16, 30, 30]
    assert [back_off.after(seconds) for seconds in (61.0, 5.0, 0.0)] == [0, 1, 2]


def test_a_lost_server_is_followed_by_another_with_a_sentence() -> None:
    async def test(world: World) -> None:
        await world.break_it("the process of pem_network has died")
        await world.break_it("tritonserver has died")
        assert len(world.servers) == 3
        assert world.lost == 2
        assert "pem_network" in world.log[0]
        assert "139" in world.log[1]
        assert all(line.count("restarted") == 1 for line in world.log)

    run(World(), test)


def test_a_later_start_that_fails_is_tried_for_ever() -> None:
    async def test(world: World) -> None:
        world.failures = ["no graph.", "no graph.", "no labels."]
        await world.break_it("tritonserver has died")
        assert len(world.servers) == 5
        assert [line.partition(";")[0] for line in world.log[1:]] == [
            "no graph",
            "no graph",
            "no labels",
        ]

    run(World(), test)


def test_the_first_start_that_fails_ends_it() -> None:
    world = World("there is no network")
    with pytest.raises(LocalServerError, match="there is no network"):
        asyncio.run(world.backend.run())
    assert len(world.servers) == 1


def test_a_step_that_got_no_processor_at_the_first_start_gets_a_second_one() -> None:
    async def test(world: World) -> None:
        assert len(world.servers) == 2

    unhealthy = "Stub process 'pem_render_0_0' is not healthy."
    run(World(unhealthy), test)
    world = World(unhealthy, unhealthy)
    with pytest.raises(LocalServerError):
        asyncio.run(world.backend.run())
    assert len(world.servers) == 2


def test_a_server_that_answers_nothing_is_lost_and_its_requests_are_given_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def never(call: object) -> bytes:
        await asyncio.Event().wait()
        return b""

    monkeypatch.setattr(backend_module, "_result", never)

    async def test(world: World) -> None:
        world.backend.expected_answer_s = lambda: 0.01
        with pytest.raises(BackendGone):
            await world.backend.infer(b"")
        assert not world.backend.ready.is_set() or len(world.servers) == 2
        await world.backend.ready.wait()
        assert "1 requests got no answer" in world.log[0]

    run(World(), test)


def test_a_server_that_dies_while_it_is_warmed_up_was_never_ready() -> None:
    world = World()
    warmed: list[int] = []

    async def warm_up() -> None:
        warmed.append(len(world.servers))
        if len(warmed) == 1:
            FakeWatch.found = "the process of pem_network has died"
            await asyncio.Event().wait()

    async def test(world: World) -> None:
        assert warmed == [1, 2]
        assert len(world.servers) == 2

    world.backend.warm_up = warm_up
    run(world, test)
