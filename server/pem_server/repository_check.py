"""Checks before the server starts; each returns one sentence with the remedy, or None.

So nobody has to search a server's log for the reason of a failure.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
from pathlib import Path

from pem_server import ports, python_check, supervisor
from pem_server.model_config import config_path, read_model_config

# Sixteen requests at once with images of 8 MB took 34 MiB; Docker's default is 64.
SHARED_MEMORY_NEEDED = 64 * 2**20
NETWORK = "pem_network"
BACKENDS = ("python", "ensemble")  # all that the server inside nvidia-pytriton can run


def machine_problems(http_port: int, grpc_port: int, metrics_port: int) -> list[str]:
    """Return what is wrong with this Python, its packages, the ports and the shared memory."""
    checks = [
        package_problem("numpy", _installed("numpy")),
        package_problem("nvidia-pytriton", _installed("nvidia-pytriton")),
        same_port_problem(http_port, grpc_port, metrics_port),
        port_problem("--http-port", http_port),
        port_problem("--grpc-port", grpc_port),
        port_problem("--metrics-port", metrics_port),
        shared_memory_problem(_free_shared_memory()),
    ]
    return [*python_check.problems(), *filter(None, checks)]


def repository_problems(repository: Path, config_name: str | None = None) -> list[str]:
    """Return what is wrong with the files of the model repository."""
    if not (repository / NETWORK).is_dir():
        return [
            f"{repository} is no model repository, since it has no folder {NETWORK}; "
            "choose another with --repository."
        ]
    checks = [
        config_name_problem(repository, config_name),
        backend_problem(repository, config_name),
        network_problem(repository),
    ]
    return [problem for problem in checks if problem][:1]  # the others follow from the first


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


def network_problem(repository: Path) -> str | None:
    """The ONNX graph must be where the network step loads it from."""
    file = repository / NETWORK / "1" / "model.onnx"
    if file.is_file():
        return None
    return f"There is no network at {file}; make it with ./run export."


def config_name_problem(repository: Path, config_name: str | None) -> str | None:
    """Triton silently falls back to config.pbtxt, so a misspelled name would go unnoticed."""
    names = sorted({file.stem for file in repository.glob("*/configs/*.pbtxt")})
    if config_name is None or config_name in names:
        return None
    known = f"the names are {', '.join(names)}" if names else "no model has a second one"
    return f"No model has a configuration named {config_name}, {known}; change --config."


def backend_problem(repository: Path, config_name: str | None) -> str | None:
    """Refuse configurations, such as t4, that need a backend of the production image."""
    for model in sorted(folder for folder in repository.iterdir() if folder.is_dir()):
        path = config_path(model, config_name)
        if not path.is_file():
            continue  # Triton reports that itself
        try:
            config = read_model_config(model, config_name)
        except ValueError as error:
            return str(error)
        backend = config.backend or config.platform
        if backend not in BACKENDS:
            return (
                f"{path} needs the backend {backend}, which the local server lacks; "
                "omit --config, or serve with the production image."
            )
    return None


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
