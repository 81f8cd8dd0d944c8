"""The whole path without the network: a real tritonserver whose network answers from a record.

Each form is a model repository with a server of its own. A light client in one more process asks
with several questions in flight; the forms take turns, so that what drifts meets all alike.
"""

import json
import math
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pem_server import TritonServer
from pem_server.stub_network import Cost, stub_repository

from .cli import BenchError
from .processes import cpu_seconds, server_processes

NO_COST = Cost(0, 0)
WARM_SECONDS = 2.0

Turn = dict[str, Any]  # what light_client tells, and `spent`: CPU seconds by process


@dataclass(frozen=True)
class Load:
    """How each form is asked: `rounds` turns of `turn_seconds`."""

    image: Path
    in_flight: int
    rounds: int
    turn_seconds: float


@dataclass(frozen=True)
class Served:
    """One form over all its turns."""

    form: str
    answered: int
    images_per_second: float
    cpu_ms: dict[str, float]  # of one image, by process: tritonserver and each Python step
    client_ms: float  # of one image, beside it on the same cores
    p50_ms: float  # the median turn's
    p99_ms: float  # the worst turn's
    found: list[dict[str, Any]]  # what every answer that was read says

    @property
    def server_ms(self) -> float:
        """CPU time of one image, server and steps together."""
        return sum(self.cpu_ms.values())


def measure_served(repositories: Mapping[str, Path], load: Load) -> list[Served]:
    """Serve each repository, by name, without its network, and load them in turns."""
    turns: dict[str, list[Turn]] = {name: [] for name in repositories}
    with ExitStack() as stack:
        servers = {name: stack.enter_context(serving(r)) for name, r in repositories.items()}
        for server, _ in servers.values():
            ask(server, load, WARM_SECONDS)
        for _ in range(load.rounds):
            for name, (server, processes) in servers.items():
                turns[name].append(take_turn(server, processes, load))
    return [summary(name, of_one) for name, of_one in turns.items()]


@contextmanager
def serving(repository: Path) -> Iterator[tuple[TritonServer, dict[int, str]]]:
    """A ready server of the repository with the stand-in, and its processes by id."""
    with stub_repository(repository, NO_COST) as copy:
        others = server_processes(os.getpid())
        with TritonServer(copy) as server:
            server.wait_until_ready()
            found = server_processes(os.getpid())
            yield server, {pid: name for pid, name in found.items() if pid not in others}


def take_turn(server: TritonServer, processes: Mapping[int, str], load: Load) -> Turn:
    """Load the server once, and see what each of its processes spends on it."""
    before = {pid: cpu_seconds(pid) for pid in processes}
    said = ask(server, load, load.turn_seconds)
    spent = dict.fromkeys(processes.values(), 0.0)
    for pid, name in processes.items():
        spent[name] += cpu_seconds(pid) - before[pid]
    return said | {"spent": spent}


def ask(server: TritonServer, load: Load, seconds: float) -> Turn:
    """Load the server by the light client; BenchError when it answers anything but its answer."""
    command = [sys.executable, "-m", "pem_bench.light_client", server.grpc_url, str(load.image)]
    options = [f"--in-flight={load.in_flight}", f"--seconds={seconds}"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"the client failed: {done.stderr.strip().splitlines()[-1]}")
    said: Turn = json.loads(done.stdout)
    if said["failure"] or not said["answered"]:
        raise BenchError(f"the server must answer, but: {said['failure'] or 'no answer came'}")
    return said


def summary(form: str, turns: Sequence[Turn]) -> Served:
    """All turns of one form; BenchError where one question had several answers."""
    found = turns[0]["found"]
    if any(turn["found"] != found for turn in turns):
        raise BenchError(f"{form} must answer one question always alike, but did not")
    answered: int = sum(turn["answered"] for turn in turns)

    def of_one_image(seconds: Iterator[float]) -> float:  # in ms
        return math.fsum(seconds) / answered * 1e3

    return Served(
        form=form,
        answered=answered,
        images_per_second=answered / sum(turn["seconds"] for turn in turns),
        cpu_ms={
            name: of_one_image(turn["spent"][name] for turn in turns) for name in turns[0]["spent"]
        },
        client_ms=of_one_image(turn["cpu_seconds"] for turn in turns),
        p50_ms=statistics.median(turn["p50_ms"] for turn in turns),
        p99_ms=max(turn["p99_ms"] for turn in turns),
        found=found,
    )
