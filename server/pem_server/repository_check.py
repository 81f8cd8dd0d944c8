"""What must hold before the server starts; each function answers with one sentence, or None.

The sentences name what was found and the remedy, so that nobody has to read a server's log for it.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
from pathlib import Path

from pem_server import ports, python_check, supervisor

# Sixteen requests at once with images of 8 MB took 34 MiB; Docker gives 64 unless told otherwise.
SHARED_MEMORY_NEEDED = 64 * 2**20
NETWORK = "pem_network"
BACKENDS = ("python", "ensemble")  # all that the server inside nvidia-pytriton can run


def machine_problems(http_port: int, grpc_port: int, metrics_port: int) -> list[str]:
    """Return what is wrong with this Python, its packages, the ports and the shared memory."""
    found = [
        package_problem("numpy", _installed("numpy")),
        package_problem("nvidia-pytriton", _installed("nvidia-pytriton")),
        same_port_problem(http_port, grpc_port, metrics_port),
        port_problem("--http-port", http_port),
        port_problem("--grpc-port", grpc_port),
        port_problem("--metrics-port", metrics_port),
        shared_memory_problem(_free_shared_memory()),
    ]
    return [*python_check.problems(), *filter(None, found)]


def repository_problems(repository: Path, config_name: str | None = None) -> list[str]:
    """Return what is wrong with the model repository, as far as a look at its files tells."""
    if not (repository / NETWORK).is_dir():
        return [
            f"The model repository must be a folder that holds {NETWORK}, and {repository} does "
            "not: name another with --repository."
        ]
    found = [
        config_name_problem(repository, config_name),
        backend_problem(repository, config_name),
        network_problem(repository),
    ]
    return [problem for problem in found if problem][:1]  # the later follow from the first


def package_problem(name: str, version: str | None) -> str | None:
    """`version` is the installed one of numpy or nvidia-pytriton, None when there is none."""
    if version is None:
        return f"The package {name} is missing: start with ./run, which installs what it needs."
    if name == "numpy" and int(version.split(".")[0]) >= 2:
        return (
            f"numpy must be below 2, and {version} is installed: with it this server's Python "
            'steps answer empty tensors without any error. Run pip install "numpy<2".'
        )
    return None


def same_port_problem(*numbers: int) -> str | None:
    """The three endpoints cannot share a port."""
    if len(set(numbers)) == len(numbers):
        return None
    listed = ", ".join(map(str, numbers))
    return f"The HTTP, gRPC and metrics ports must differ, and they are {listed}: change one."


def port_problem(option: str, port: int) -> str | None:
    """`option` is the one that sets this port."""
    if not ports.is_taken(port):
        return None
    if port < 1024 and os.geteuid() != 0:
        return f"Port {port} is reserved for root: choose one above 1023 with {option}."
    return f"Port {port} is taken by another program: stop that, or choose another with {option}."


def shared_memory_problem(free: int | None) -> str | None:
    """`free` bytes in /dev/shm; None when this system has none."""
    if free is not None and free >= SHARED_MEMORY_NEEDED:
        return None
    found = "there is no such folder" if free is None else f"{free / 2**20:.0f} MiB are free"
    return (
        f"Triton passes images between its steps through /dev/shm and needs "
        f"{SHARED_MEMORY_NEEDED / 2**20:.0f} MiB there, and {found}: make it larger, "
        "with Docker by --shm-size=1g."
    )


def network_problem(repository: Path) -> str | None:
    """The ONNX graph must lie where the network step looks for it."""
    file = repository / NETWORK / "1" / "model.onnx"
    if file.is_file():
        return None
    return f"The network is missing, it should be {file}: make it with ./run export."


def config_name_problem(repository: Path, config_name: str | None) -> str | None:
    """Triton falls back to config.pbtxt in silence, so a misspelt name would go unnoticed."""
    names = sorted({file.stem for file in repository.glob("*/configs/*.pbtxt")})
    if config_name is None or config_name in names:
        return None
    known = f"there are {', '.join(names)}" if names else "no model has another configuration"
    return f"No model has a configuration named {config_name}, {known}: change --config."


def backend_problem(repository: Path, config_name: str | None) -> str | None:
    """Refuse configurations, such as t4, that need a backend of the production image."""
    for model in sorted(folder for folder in repository.iterdir() if folder.is_dir()):
        named = model / "configs" / f"{config_name}.pbtxt"
        config = named if named.is_file() else model / "config.pbtxt"
        backend = _backend(config)
        if backend and backend not in BACKENDS:
            return (
                f"{config} asks for the backend {backend}, which the local server does not have: "
                "leave out --config, or serve with the production image."
            )
    return None


def _backend(config: Path) -> str | None:
    if not config.is_file():
        return None  # Triton says so itself
    match = re.search(r'^\s*(?:backend|platform)\s*:\s*"(\w+)"', config.read_text(), re.MULTILINE)
    return match[1] if match else None


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
