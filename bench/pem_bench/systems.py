"""The served systems that are compared: ours and the peers, each in processes of its own.

A system is started on loopback, told ready by its own health address, and stopped with all its
processes. The peers' code lies in bench/peers, with the documentation that each follows.
"""

import http.client
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pem_server import LocalServerError, TritonServer, free_ports, supervisor
from pemexport import contract

from . import wires
from .cli import BenchError
from .load import Lane
from .plain_graph import export_plain
from .processes import descendants

REPOSITORY = contract.ROOT / "model_repository"
PEERS = contract.ROOT / "bench" / "peers"
OURS = "ours"
READY_S = 120.0
STOP_S = 10.0


@dataclass(frozen=True)
class System:
    """A running system: how to ask it, by protocol, and the processes it consists of."""

    name: str
    lanes: Mapping[str, Lane]
    pids: list[int]
    metrics_url: str = ""  # of a Triton server


@dataclass(frozen=True)
class Kind:
    """A system that can be started for one image."""

    name: str
    summary: str  # what it is made of, for the report
    start: Callable[[ExitStack, bytes], System]


def kinds(scratch: Path = Path()) -> dict[str, Kind]:
    """Ours first, then the peers; what they need made for them lies in `scratch` from then on."""
    cores = len(os.sched_getaffinity(0))
    every = (
        Kind(OURS, "this repository in tritonserver", start_ours),
        Kind(
            "triton-tutorial",
            "tritonserver, the tutorial's ensemble: UINT8 [-1] in, FP32 3x640x640, float logits; "
            "plain export in ONNX Runtime (the packaged server has the Python backend only)",
            lambda stack, image: start_tutorial(stack, image, scratch),
        ),
        Kind(
            "fastapi-onnxruntime",
            f"FastAPI, uvicorn with 1 worker, our exported graph in ONNX Runtime, {cores} threads",
            lambda stack, image: start_fastapi(stack, image, workers=1, threads=cores),
        ),
        Kind(
            "litserve-onnxruntime",
            f"LitServe, batches of 8, 1 worker, our exported graph in ONNX Runtime, {cores} "
            "threads",
            lambda stack, image: start_litserve(stack, image, workers=1, threads=cores),
        ),
        Kind("fastapi-ours", "FastAPI around our own steps and engine", start_fastapi_ours),
    )
    return {kind.name: kind for kind in every}


def start_ours(
    stack: ExitStack, image: bytes, repository: Path = REPOSITORY, images: int = 1
) -> System:
    """The project's ensemble, or an altered copy of it; each request carries so many images."""
    question = wires.encoded_image(image, images)
    return _start_triton(stack, OURS, repository, wires.ENSEMBLE, *question)


def start_tutorial(stack: ExitStack, image: bytes, scratch: Path) -> System:
    """The tutorial's ensemble, laid out in `scratch` the first time, with a graph made for it."""
    models = scratch / "triton-tutorial"
    if not models.exists():
        lay_out_tutorial(models)
    tensor, raw = wires.image_as_numbers(image)
    return _start_triton(stack, "triton-tutorial", models, "ensemble_model", tensor, raw)


def lay_out_tutorial(folder: Path) -> None:
    """A model repository at `folder`: the peer's files, each step with what it imports or loads."""
    shutil.copytree(PEERS / "triton_tutorial", folder, ignore=shutil.ignore_patterns("__pycache__"))
    for step in ("preprocess", "postprocess"):
        shutil.copy(PEERS / "plain_steps.py", folder / step / "1")
    shutil.copy(contract.LABELS_PATH, folder / "postprocess" / "1" / "labels.txt")
    export_plain(contract.WEIGHTS_PATH, folder / "network" / "1" / "model.onnx")


def start_fastapi(stack: ExitStack, image: bytes, *, workers: int, threads: int) -> System:
    """FastAPI and ONNX Runtime."""
    return _start_uvicorn(
        stack, image, "fastapi_onnxruntime", workers, _graph_files() | {"THREADS": str(threads)}
    )


def start_fastapi_ours(stack: ExitStack, image: bytes) -> System:
    """FastAPI and our engine, with the settings of the served step."""
    served = network_parameters(REPOSITORY)
    settings = {
        "REPOSITORY": str(REPOSITORY),
        "THREADS": served["threads"],
        "PRECISION": served["precision"],
    }
    return _start_uvicorn(stack, image, "fastapi_ours", 1, settings)


def start_litserve(stack: ExitStack, image: bytes, *, workers: int, threads: int) -> System:
    """LitServe and ONNX Runtime."""
    (port,) = free_ports(1)
    numbers = {"PORT": str(port), "WORKERS": str(workers), "THREADS": str(threads)}
    command = [sys.executable, "-m", "litserve_onnxruntime.service"]
    pid = stack.enter_context(_running(command, _graph_files() | numbers, port))
    return _uploaded("litserve-onnxruntime", image, port, pid)


def network_parameters(repository: Path) -> dict[str, str]:
    """The parameters in pem_network's configuration."""
    text = (repository / "pem_network" / "config.pbtxt").read_text(encoding="utf-8")
    return dict(re.findall(r'key: "(\w+)"\s+value \{ string_value: "([^"]*)" \}', text))


def _graph_files() -> dict[str, str]:
    return {"MODEL": str(contract.ONNX_PATH), "LABELS": str(contract.LABELS_PATH)}


def _start_triton(
    stack: ExitStack,
    name: str,
    repository: Path,
    model: str,
    tensor: dict[str, object],
    raw: bytes,
) -> System:
    before = set(descendants(os.getpid()))
    # An idle HTTP connection would cost a stop all the time that it may take.
    server = TritonServer(repository, exit_timeout_s=1)
    try:
        stack.enter_context(server)
        server.wait_until_ready()
    except LocalServerError as error:
        raise BenchError(str(error)) from error
    lanes = {
        "grpc": wires.triton_grpc(server.grpc_url, model, tensor, raw),
        "http": wires.triton_http(server.http_url, model, tensor, raw),
    }
    started = sorted(set(descendants(os.getpid())) - before)
    return System(name, lanes, started, server.metrics_url)


def _start_uvicorn(
    stack: ExitStack, image: bytes, folder: str, workers: int, settings: dict[str, str]
) -> System:
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "uvicorn", f"{folder}.service:app"]
    command += ["--port", str(port), "--workers", str(workers), "--no-access-log"]
    pid = stack.enter_context(_running(command, settings, port))
    return _uploaded(folder.replace("_", "-"), image, port, pid)


def _uploaded(name: str, image: bytes, port: int, pid: int) -> System:
    lane = wires.upload(f"127.0.0.1:{port}", "/predict", "image", image)
    return System(name, {"http": lane}, descendants(pid))


@contextmanager
def _running(command: list[str], settings: dict[str, str], port: int) -> Iterator[int]:
    """A peer's process, from ready to gone; yields its number. BenchError if it does not start.

    The server's own warden guards it: nothing of it outlives this process, however that ends.
    """
    scratch = tempfile.mkdtemp(prefix="pem-peer-")  # the warden removes it
    guard = [sys.executable, "-I", "-S", supervisor.__file__, scratch, str(STOP_S)]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            guard + command,
            cwd=PEERS,  # from where the peers import
            env=os.environ | settings | {"PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a Ctrl-C reaches this process only
        )
        try:
            deadline = time.monotonic() + READY_S
            while not _is_healthy(port):
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    words = log.read().decode(errors="replace")[-2000:]
                    raise BenchError(f"{' '.join(command[1:])} did not become ready: {words}")
                time.sleep(0.1)
            yield process.pid
        finally:
            with suppress(BrokenPipeError):
                process.communicate(b"stop\n")


def _is_healthy(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/health", headers={"Connection": "close"})
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
