"""A gateway as a process of its own, before a stub network."""

import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pem_server.checkout import MODEL_REPOSITORY
from pem_server.ports import free_ports
from pem_server.stub_network import Cost

COST = Cost(20, 5)


@dataclass(frozen=True)
class RunningGateway:
    """Its addresses, named as those of pem_server.TritonServer; `http` and `grpc` are host:port."""

    process: "subprocess.Popen[str]"
    http_port: int
    grpc_port: int
    metrics_port: int

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def http(self) -> str:
        return f"127.0.0.1:{self.http_port}"

    @property
    def grpc(self) -> str:
        return f"127.0.0.1:{self.grpc_port}"

    @property
    def http_url(self) -> str:
        return f"http://{self.http}"

    @property
    def grpc_url(self) -> str:
        return f"grpc://{self.grpc}"

    @property
    def metrics_url(self) -> str:
        return f"http://127.0.0.1:{self.metrics_port}/metrics"

    def metrics(self) -> str:
        """What Prometheus would read now."""
        with urllib.request.urlopen(self.metrics_url, timeout=20) as answer:
            return str(answer.read().decode())


@contextmanager
def running_gateway(
    *options: str, cost: Cost = COST, repository: Path = MODEL_REPOSITORY
) -> Iterator[RunningGateway]:
    """One that is ready, on free ports, with options of its own; it ends with the block."""
    ports = free_ports(3)
    names = ("http", "grpc", "metrics")
    served_at = [f"--{name}-port={port}" for name, port in zip(names, ports, strict=True)]
    stub = f"--stub-network={cost.fixed_ms:g}:{cost.per_image_ms:g}"
    command = [sys.executable, "-m", "pem_gateway", "serve", f"--repository={repository}", stub]
    process = subprocess.Popen([*command, *served_at, *options], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    try:
        # By its banner, since a gateway with keys or TLS is not asked as easily.
        printed = iter(process.stdout.readline, "")
        assert any(line.startswith("  stop ") for line in printed), "the gateway did not start"
        yield RunningGateway(process, *ports)
    finally:
        process.terminate()
        process.communicate()
