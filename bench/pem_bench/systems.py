"""The served systems that are compared: ours and its peers, each in processes of its own.

A system is started on loopback, ready when its health address says so, and stopped with all its
processes. The peers' code is in bench/peers, with the documentation that each follows.
"""

import http.client
import os
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
from pem_server.checkout import MODEL_REPOSITORY, ROOT
from pem_server.model_config import read_model_config
from pem_server.stub_network import Cost, stub_repository
from pemexport import contract
from pemseg import load_network

from . import payloads
from .cli import BenchError
from .exported_graphs import export_tutorial
from .load_generator import Connect
from .processes import descendants

PEERS = ROOT / "bench" / "peers"
OURS = "ours"
READY_S = 120.0
STOP_S = 10.0


@dataclass(frozen=True)
class System:
    """A running system: how to connect to it, by protocol, and its processes."""

    connections: Mapping[str, Connect]
    pids: list[int]


@dataclass(frozen=True)
class Launcher:
    """A system that can be started to be sent one image."""

    name: str
    summary: str  # what it is made of, for the report
    start: Callable[[ExitStack, bytes], System]


def launchers(scratch: Path = Path(), workers: int = 1, threads: int = 0) -> dict[str, Launcher]:
    """Ours first, then the peers; files made for them are kept in `scratch`.

    `workers` and `threads` (0: one a core) are of the services with ONNX Runtime.
    """
    threads = threads or len(os.sched_getaffinity(0))
    served = f"our exported graph in ONNX Runtime, {workers} workers, {threads} threads"
    known = (
        Launcher(OURS, "this repository in tritonserver", start_ours),
        Launcher(
            "triton-tutorial",
            "tritonserver, the tutorial's ensemble: UINT8 [-1] in, FP32 3x640x640, float logits; "
            "plain export in ONNX Runtime (the packaged server has the Python backend only)",
            lambda stack, image: start_tutorial(stack, image, scratch),
        ),
        Launcher(
            "fastapi-onnxruntime",
            f"FastAPI and uvicorn, {served}",
            lambda stack, image: start_fastapi(stack, image, workers, threads),
        ),
        Launcher(
            "litserve-onnxruntime",
            f"LitServe, batches of 8, {served}",
            lambda stack, image: start_litserve(stack, image, workers, threads),
        ),
        Launcher("fastapi-ours", "FastAPI around our own steps and engine", start_fastapi_ours),
    )
    return {launcher.name: launcher for launcher in known}


def no_network(name: str, repository: Path) -> Launcher:
    """A repository with a network that costs nothing: what the server and its steps can do."""

    def start(stack: ExitStack, image: bytes) -> System:
        served = stack.enter_context(stub_repository(repository, Cost(0, 0)))
        return start_ours(stack, image, served)

    return Launcher(name, f"{repository.name}, its network replaced by a record", start)


def start_ours(
    stack: ExitStack, image: bytes, repository: Path = MODEL_REPOSITORY, images: int = 1
) -> System:
    """Our ensemble in a real tritonserver; each request carries the image `images` times."""
    tensor = payloads.encoded_image(image, images)
    return _start_triton(stack, repository, payloads.ENSEMBLE, tensor)


def start_tutorial(stack: ExitStack, image: bytes, scratch: Path) -> System:
    """The tutorial's ensemble, laid out in `scratch` the first time, with a graph made for it."""
    models = scratch / "triton-tutorial"
    if not models.exists():
        lay_out_tutorial(models)
    return _start_triton(stack, models, "ensemble_model", payloads.image_as_uint8(image))


def lay_out_tutorial(folder: Path) -> None:
    """A model repository at `folder`: the peer's files, each step with what it imports or loads."""
    shutil.copytree(PEERS / "triton_tutorial", folder, ignore=shutil.ignore_patterns("__pycache__"))
    for step in ("preprocess", "postprocess"):
        shutil.copy(PEERS / "plain_steps.py", folder / step / "1")
    shutil.copy(contract.LABELS_PATH, folder / "postprocess" / "1" / "labels.txt")
    network = load_network(contract.WEIGHTS_PATH)
    export_tutorial(network, folder / "network" / "1" / "model.onnx")


def start_fastapi(stack: ExitStack, image: bytes, workers: int, threads: int) -> System:
    settings = _graph_files() | {"THREADS": str(threads)}
    return _start_uvicorn(stack, image, "fastapi_onnxruntime", workers, settings)


def start_fastapi_ours(stack: ExitStack, image: bytes) -> System:
    """With the settings of the served network step."""
    config = read_model_config(MODEL_REPOSITORY / "pem_network")
    served = {key.upper(): config.parameters[key].string_value for key in ("threads", "precision")}
    settings = served | {"REPOSITORY": str(MODEL_REPOSITORY)}
    return _start_uvicorn(stack, image, "fastapi_ours", 1, settings)


def start_litserve(stack: ExitStack, image: bytes, workers: int, threads: int) -> System:
    (port,) = free_ports(1)
    numbers = {"PORT": str(port), "WORKERS": str(workers), "THREADS": str(threads)}
    command = [sys.executable, "-m", "litserve_onnxruntime"]
    return _start_peer(stack, image, command, _graph_files() | numbers, port)


def _graph_files() -> dict[str, str]:
    return {"MODEL": str(contract.ONNX_PATH), "LABELS": str(contract.LABELS_PATH)}


def _start_triton(
    stack: ExitStack, repository: Path, model: str, tensor: payloads.Tensor
) -> System:
    before = set(descendants())
    # An idle HTTP connection would cost a stop all the time that it may take.
    server = TritonServer(repository, exit_timeout_s=1)
    try:
        stack.enter_context(server)
        server.wait_until_ready()
    except LocalServerError as error:
        raise BenchError(str(error)) from error
    connections = {
        "grpc": payloads.triton_grpc(server.grpc_url, model, tensor),
        "http": payloads.triton_http(server.http_url, model, tensor),
    }
    return System(connections, sorted(set(descendants()) - before))


def _start_uvicorn(
    stack: ExitStack, image: bytes, module: str, workers: int, settings: dict[str, str]
) -> System:
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "uvicorn", f"{module}:app"]
    command += ["--port", str(port), "--workers", str(workers), "--no-access-log"]
    return _start_peer(stack, image, command, settings, port)


def _start_peer(
    stack: ExitStack, image: bytes, command: list[str], settings: dict[str, str], port: int
) -> System:
    pid = stack.enter_context(_running(command, settings, port))
    connect = payloads.upload(f"127.0.0.1:{port}", "/predict", "image", image)
    return System({"http": connect}, descendants(pid))


@contextmanager
def _running(command: list[str], settings: dict[str, str], port: int) -> Iterator[int]:
    """A peer's process, from ready to gone; yields its id. BenchError if it does not start.

    The server's own supervisor guards it: nothing of it outlives this process, however that ends.
    """
    scratch = tempfile.mkdtemp(prefix="pem-peer-")  # the supervisor removes it
    guard = [sys.executable, "-I", "-S", supervisor.__file__, scratch, str(STOP_S)]
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            guard + command,
            cwd=PEERS,  # from where the peers import
            env=os.environ | settings | {"PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches this process only
        )
        try:
            deadline = time.monotonic() + READY_S
            while not _is_healthy(port):
                if process.poll() is not None or time.monotonic() > deadline:
                    output.seek(0)
                    tail = output.read().decode(errors="replace")[-2000:]
                    raise BenchError(f"{' '.join(command[1:])} did not become ready: {tail}")
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
