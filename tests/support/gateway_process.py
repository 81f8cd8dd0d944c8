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
    names = ("http", "grpc", "metrics")
    options = [f"--{name}-port={port}" for name, port in zip(names, ports, strict=True)]
    stub = f"--stub-network={cost.fixed_ms:g}:{cost.per_image_ms:g}"
    command = [sys.executable, "-m", "pem_gateway", "serve", f"--repository={repository}", stub]
    process = subprocess.Popen([*command, *options])
    gateway = RunningGateway(process, *ports)
    try:
        assert poll(lambda: process.poll() is not None or gateway.is_ready())
        assert process.poll() is None, "the gateway did not start"
        yield gateway
    finally:
        process.terminate()
        process.wait()
