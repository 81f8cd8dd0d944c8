"""A gateway as a process of its own, before a stub network."""

import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from polling import poll

from pem_server.ports import free_ports
from pem_server.stub_network import Cost

PROGRAM = """
import asyncio, sys
from pathlib import Path
from pem_gateway.gateway import Settings, run
from pem_server.stub_network import parse_cost, stub_repository

http, grpc, metrics = map(int, sys.argv[3:])
with stub_repository(Path(sys.argv[1]), parse_cost(sys.argv[2])) as repository:
    asyncio.run(
        run(Settings(repository=repository, http_port=http, grpc_port=grpc, metrics_port=metrics))
    )
"""


@dataclass(frozen=True)
class RunningGateway:
    """Its addresses, named as those of pem_server.TritonServer."""

    process: "subprocess.Popen[bytes]"
    http_port: int
    grpc_port: int
    metrics_port: int

    @property
    def http_url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def grpc_url(self) -> str:
        return f"grpc://127.0.0.1:{self.grpc_port}"

    @property
    def metrics_url(self) -> str:
        return f"http://127.0.0.1:{self.metrics_port}/metrics"

    def metrics(self) -> str:
        """What Prometheus would read now."""
        with urllib.request.urlopen(self.metrics_url, timeout=20) as answer:
            return str(answer.read().decode())

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.http_url}/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


@contextmanager
def running_gateway(repository: Path, cost: Cost) -> Iterator[RunningGateway]:
    """One that is ready, on free ports; it ends with the block."""
    ports = free_ports(3)
    command = [sys.executable, "-c", PROGRAM, repository, ":".join(f"{each:g}" for each in cost)]
    process = subprocess.Popen([*map(str, command), *map(str, ports)])
    gateway = RunningGateway(process, *ports)
    try:
        assert poll(lambda: process.poll() is not None or gateway.is_ready())
        assert process.poll() is None, "the gateway did not start"
        yield gateway
    finally:
        process.terminate()
        process.wait()
