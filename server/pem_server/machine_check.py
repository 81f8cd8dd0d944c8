"""Checks of the machine before the server starts: one sentence with the remedy each, or None.

So nobody has to search a server's log for the reason of a failure.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil

from pem_server import ports, python_check, supervisor

# Sixteen requests at once with images of 8 MB took 34 MiB; Docker's default is 64.
SHARED_MEMORY_NEEDED = 64 * 2**20


def machine_problems(http_port: int, grpc_port: int, metrics_port: int) -> list[str]:
    """Return what is wrong with this Python, its packages, the ports and the shared memory."""
    checks = [
        package_problem("numpy", _installed("numpy")),
        package_problem("nvidia-pytriton", _installed("nvidia-pytriton")),
        *port_problems(http_port, grpc_port, metrics_port),
        shared_memory_problem(_free_shared_memory()),
    ]
    return [*python_check.problems(), *filter(None, checks)]


def port_problems(http_port: int, grpc_port: int, metrics_port: int) -> list[str]:
    """Return what keeps a server from listening on these ports."""
    checks = [
        same_port_problem(http_port, grpc_port, metrics_port),
        port_problem("--http-port", http_port),
        port_problem("--grpc-port", grpc_port),
        port_problem("--metrics-port", metrics_port),
    ]
    return [problem for problem in checks if problem]


def package_problem(name: str, version: str | None) -> str | None:
    """`version` is the installed one of numpy or nvidia-pytriton, None when there is none."""
    if version is None:
        return f"The package {name} is missing; start with ./run, which installs it."
    if name == "numpy" and int(version.split(".")[0]) >= 2:
        return (
            f"numpy must be below 2, but {version} is installed, with which this server's Python "
            'steps return empty tensors without any error; run pip install "numpy<2".'
        )
    return None


def same_port_problem(*numbers: int) -> str | None:
    """The three endpoints cannot share a port."""
    if len(set(numbers)) == len(numbers):
        return None
    listed = ", ".join(map(str, numbers))
    return f"The HTTP, gRPC and metrics ports must differ, got {listed}; change one."


def port_problem(option: str, port: int) -> str | None:
    """`option` is the command-line option of this port."""
    if not ports.is_taken(port):
        return None
    if port < 1024 and os.geteuid() != 0:
        return f"Port {port} is reserved for root; choose one above 1023 with {option}."
    return f"Port {port} is in use by another program; stop it, or change the port with {option}."


def shared_memory_problem(free: int | None) -> str | None:
    """`free` bytes in /dev/shm; None when this system has none."""
    if free is not None and free >= SHARED_MEMORY_NEEDED:
        return None
    found = "it does not exist" if free is None else f"only {free / 2**20:.0f} MiB are free"
    return (
        f"Triton passes images between its steps through /dev/shm and needs "
        f"{SHARED_MEMORY_NEEDED / 2**20:.0f} MiB there, but {found}; enlarge it, "
        "in Docker with --shm-size=1g."
    )


def _installed(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _free_shared_memory() -> int | None:
    try:
        return shutil.disk_usage(supervisor.SHARED_MEMORY).free
    except FileNotFoundError:
        return None
