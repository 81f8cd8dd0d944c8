"""Checks of the model repository before the server starts: one sentence with its remedy, or none.

So nobody has to search a server's log for the reason of a failure. What is checked here costs
milliseconds; Triton reports most of it after some seconds and in its own words, some never.
"""

from __future__ import annotations

import json
from pathlib import Path

from tritonclient.grpc.model_config_pb2 import ModelConfig

from pem_server import checksums
from pem_server.model_config import config_path, read_model_config

ENSEMBLE, NETWORK = "fai-pem-m-ade", "pem_network"
BACKENDS = ("python", "ensemble")  # all that the server inside nvidia-pytriton can run
ONNX_START = b"\x08"  # the tag of ir_version, the first field of every ONNX file
RESTORE = "restore it, in a checkout by git restore model_repository"


def repository_problems(
    repository: Path, config_name: str | None = None, *, stub_network: bool = False
) -> list[str]:
    """Return what is wrong with the files of the model repository, at most one sentence.

    `stub_network`: the network and what belongs to it are not needed.
    """
    if not (repository / NETWORK).is_dir():
        return [
            f"{repository} is no model repository, since it has no folder {NETWORK}; "
            "choose another with --repository."
        ]
    problem = config_name_problem(repository, config_name) or steps_problem(repository, config_name)
    if not problem and not stub_network:
        problem = network_problem(repository) or checksums.problem(repository)
    return [problem] if problem else []  # others would follow from the first


def config_name_problem(repository: Path, config_name: str | None) -> str | None:
    """Triton silently falls back to config.pbtxt, so a misspelled name would go unnoticed."""
    names = sorted({file.stem for file in repository.glob("*/configs/*.pbtxt")})
    if config_name is None or config_name in names:
        return None
    known = f"the names are {', '.join(names)}" if names else "no model has a second one"
    return f"No model has a configuration named {config_name}, {known}; change --config."


def steps_problem(repository: Path, config_name: str | None) -> str | None:
    """The ensemble, each of its steps and whatever else lies there must be complete."""
    names = {folder.name for folder in repository.iterdir() if folder.is_dir()} | {ENSEMBLE}
    for name in sorted(names):
        path = config_path(repository / name, config_name)
        try:
            config = read_model_config(repository / name, config_name)
        except FileNotFoundError:
            return f"The model {name} has no configuration {path}; {RESTORE}."
        except (OSError, ValueError) as error:
            return f"{' '.join(str(error).split())}; {RESTORE}."
        if problem := _backend_problem(path, config) or _step_problem(repository / name, config):
            return problem
        for step in config.ensemble_scheduling.step:
            if not (repository / step.model_name).is_dir():
                return f"{path} needs the model {step.model_name}, which is missing; {RESTORE}."
    return None


def network_problem(repository: Path) -> str | None:
    """The ONNX graph must be where the network step loads it from, and be one."""
    graph = repository / NETWORK / "1" / "model.onnx"
    if not graph.is_file():
        return f"There is no network at {graph}; make it with ./run export."
    with graph.open("rb") as file:
        if not file.read(1).startswith(ONNX_START):
            return f"{graph} is no ONNX file; make it with ./run export."
    ranges = graph.with_suffix(".ranges.json")
    if ranges.is_file():
        try:
            json.loads(ranges.read_bytes())
        except ValueError as error:
            return (
                f"{ranges} must be JSON: {error}; make it with ./run export --calibration, or "
                "delete it to serve without INT8."
            )
    return None


def _backend_problem(path: Path, config: ModelConfig) -> str | None:
    """Refuse configurations, such as t4, that need a backend of the production image."""
    backend = config.backend or config.platform
    if backend in BACKENDS:
        return None
    if not backend:
        return f"{path} names no backend, as if it was empty or cut short; {RESTORE}."
    return (
        f"{path} needs the backend {backend}, which the local server lacks; "
        "omit --config, or serve with the production image."
    )


def _step_problem(model: Path, config: ModelConfig) -> str | None:
    """Triton does not say which model has no version, and waits for ever for a missing model.py."""
    version = model / "1"
    if not version.is_dir():
        return f"The model {model.name} has no version folder {version}; {RESTORE}."
    if config.backend == "python" and not (version / "model.py").is_file():
        return f"The model {model.name} has no program {version / 'model.py'}; {RESTORE}."
    return None
