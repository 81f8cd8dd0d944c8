"""One tritonserver with a stub network for the whole suite; each test sets what a batch costs.

The network can also be held, so that "while it is busy" is a state and no race against a clock:

    server = stub.set_cost(Cost(20, 5))
    with stub.held(): ...
"""

from __future__ import annotations

import math
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from polling import poll

from pem_server import LocalServerError, TritonServer
from pem_server.stub_network import Cost, stub_repository

# What most tests want, and what the copy's config.pbtxt says of itself.
COST = Cost(20, 5)
HELD = Cost(math.inf, 0)
# Appended to the stub's model.py. A batch that is at work follows a change of its cost.
CHANGEABLE = '''

class TritonPythonModel(TritonPythonModel):
    """The same with its cost in a file."""

    def _work(self, count):
        start = time.monotonic()
        while (left := start + self._seconds(count) - time.monotonic()) > 0:
            time.sleep(min(left, 0.01))

    def _seconds(self, count):
        fixed_ms, per_image_ms = map(float, Path(__file__).with_name("cost").read_text().split())
        return (fixed_ms + count * per_image_ms) / 1e3
'''


class StubServer:
    """The running server, and the cost of its network."""

    def __init__(self, server: TritonServer) -> None:
        self.server = server
        self._cost = COST

    def set_cost(self, cost: Cost) -> TritonServer:
        """Let a batch cost this from now on; returns the server, for a fixture to return."""
        self._cost = cost
        _write(self.server.repository, cost)
        return self.server

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let the network finish nothing within the block."""
        _write(self.server.repository, HELD)
        try:
            yield
        finally:
            _write(self.server.repository, self._cost)


@contextmanager
def running_stub(repository: Path) -> Iterator[StubServer]:
    """Start the server on a copy of `repository`; it ends with the block."""
    with stub_repository(repository, COST) as copy:
        with (copy / "pem_network" / "1" / "model.py").open("a") as model:
            model.write(CHANGEABLE)
        _write(copy, COST)
        with running(copy) as server:
            yield StubServer(server)


@contextmanager
def running(repository: Path) -> Iterator[TritonServer]:
    """A server of this repository. Its counters can be read, too: Triton opens them last."""
    server = _started(repository)
    try:
        assert poll(lambda: _listens(server.metrics_port))
        yield server
    finally:
        server.stop()


def _started(repository: Path, attempts: int = 5) -> TritonServer:
    """Triton gives up a step that got no processor for a second while it loads: start again."""
    server = TritonServer(repository, exit_timeout_s=1)
    try:
        server.start()
        server.wait_until_ready()
    except LocalServerError as error:
        server.kill()
        if "is not healthy" not in str(error) or attempts == 1:
            raise
        return _started(repository, attempts - 1)
    return server


def _listens(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


def _write(repository: Path, cost: Cost) -> None:
    """Replace the file as a whole: the network may be reading it."""
    file = repository / "pem_network" / "1" / "cost"
    new = file.with_name("cost.new")
    new.write_text(f"{cost.fixed_ms} {cost.per_image_ms}")
    os.replace(new, file)
