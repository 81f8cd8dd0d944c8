"""The real tritonserver with one tiny model: it starts, answers, and leaves nothing behind."""

import contextlib
import http.client
import json
import os
import pty
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from polling import poll

from pem_server import LocalServerError, TritonServer
from pem_server.checkout import MODEL_REPOSITORY

CONFIG = """
name: "pem_network"
backend: "python"
max_batch_size: 8
input [{ name: "text" data_type: TYPE_STRING dims: [1] }]
output [{ name: "text" data_type: TYPE_STRING dims: [1] }]
instance_group [{ kind: KIND_CPU count: 1 }]
"""

# Answers with the environment in which the server runs the step.
MODEL = """
import json, os, sys
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        pb_utils.Logger.log_warn("a warning of the step")
        seen = json.dumps([sys.prefix, os.listdir(), os.environ["OMP_NUM_THREADS"]])
        tensor = pb_utils.Tensor("text", np.array([[seen.encode()]], dtype=object))
        return [pb_utils.InferenceResponse([tensor]) for _ in requests]
"""

FAILING = """
import time
class TritonPythonModel:
    def initialize(self, args):
"""
REFUSING = FAILING + '        raise FileNotFoundError("the graph is not there")'
SLOW = FAILING + "        time.sleep(60)"

CTRL_C = b"\x03"


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository with one step; scratch folders are next to it, so that a test sees its own."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    monkeypatch.setenv("TMPDIR", str(scratch))
    return make_repository(tmp_path / "repository", MODEL)


def test_a_server_runs_its_steps_in_a_clean_environment_and_leaves_nothing(repository):
    lines = []
    with TritonServer(repository, on_log=lines.append) as server:
        server.wait_until_ready()
        names = scratch_names(repository)
        assert regions(names)  # else the check below could not fail
        prefix, working_folder, threads = json.loads(infer(server.http_port))
        assert (prefix, working_folder, threads) == (sys.prefix, [], "1")
        assert any("a warning of the step" in line for line in lines)
        assert get(server.metrics_port, "/metrics").startswith("# HELP nv_")
    assert any("Signal (15)" in line for line in lines)  # a graceful stop
    assert leftovers(repository, names) == []
    assert not server.is_running()


def test_a_stop_with_a_connected_client_leaves_nothing(repository):
    with TritonServer(repository, exit_timeout_s=1) as server:
        server.wait_until_ready()
        names = scratch_names(repository)
        idle = http.client.HTTPConnection("127.0.0.1", server.http_port)
        idle.request("GET", "/v2/health/live")
        idle.getresponse().read()
    idle.close()
    assert leftovers(repository, names) == []


def test_ctrl_c_in_a_program_kills_instead_of_waiting_for_requests(repository):
    lines = []
    server = TritonServer(repository, on_log=lines.append)
    with contextlib.suppress(KeyboardInterrupt), server:
        server.wait_until_ready()
        names = scratch_names(repository)
        raise KeyboardInterrupt
    assert not any("Signal (15)" in line for line in lines)
    assert leftovers(repository, names) == []


def test_a_server_that_dies_is_reported_and_leaves_nothing(repository):
    with TritonServer(repository) as server:
        server.wait_until_ready()
        names = scratch_names(repository)
        found = {command.split()[0]: number for number, command in processes(repository).items()}
        (number,) = [found[program] for program in found if program.endswith("/tritonserver")]
        os.kill(number, signal.SIGKILL)
        with pytest.raises(LocalServerError, match="137"):
            server.wait()
    assert leftovers(repository, names) == []


def test_a_launcher_that_is_killed_leaves_nothing(repository):
    program = (
        "import pathlib, sys, pem_server, time\n"
        "with pem_server.TritonServer(pathlib.Path(sys.argv[1])) as server:\n"
        "    server.wait_until_ready()\n"
        "    print('ready', flush=True)\n"
        "    time.sleep(60)\n"
    )
    launcher = subprocess.Popen(
        [sys.executable, "-c", program, str(repository)], stdout=subprocess.PIPE, text=True
    )
    with launcher:
        assert launcher.stdout.readline() == "ready\n"
        names = scratch_names(repository)
        assert regions(names)
        launcher.kill()
    # Nobody waits for the clean-up after a launcher that is gone.
    assert poll(lambda: leftovers(repository, names), lambda left: not left) == []


@pytest.mark.parametrize(
    ("source", "timeout_s", "reason"),
    [(REFUSING, 120, "pem_network: FileNotFoundError: the graph is not there"), (SLOW, 1, "1 s")],
)
def test_a_model_that_does_not_load_is_one_line(tmp_path, repository, source, timeout_s, reason):
    failing = make_repository(tmp_path / "failing", source)
    with pytest.raises(LocalServerError) as raised, TritonServer(failing) as server:
        server.wait_until_ready(timeout_s)
    assert reason in str(raised.value)
    assert "\n" not in str(raised.value)
    assert leftovers(failing, scratch_names(repository)) == []


def test_a_port_in_use_is_refused_with_its_option(repository):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(LocalServerError, match=rf"{port}.*--grpc-port"):
            TritonServer(repository, grpc_port=port).start()
    assert scratch_names(repository) == []


@pytest.mark.parametrize(
    ("ending", "code"), [("ctrl-c", 0), ("ctrl-c twice", 130), ("SIGTERM", 0), ("SIGHUP", 0)]
)
def test_the_serve_command_stops_on_a_signal_and_leaves_nothing(repository, ending, code):
    terminal, serve = serve_in_terminal(repository)
    with serve:
        read_until(terminal, "stop ")
        names = scratch_names(repository)
        assert regions(names)
        if ending.startswith("SIG"):
            serve.send_signal(signal.Signals[ending])
        else:
            os.write(terminal, CTRL_C)
        read_until(terminal, "stopping")
        if ending == "ctrl-c twice":
            os.write(terminal, CTRL_C)
        assert serve.wait() == code
    os.close(terminal)
    assert leftovers(repository, names) == []


def test_the_serve_command_tells_that_its_network_is_a_stub():
    terminal, serve = serve_in_terminal(MODEL_REPOSITORY, "--stub-network", "20:5")
    with serve:
        log = read_until(terminal, "IS A STUB: 20 ms a batch and 5 ms an image")
        os.write(terminal, CTRL_C)
        read_until(terminal, "stopping")
        assert serve.wait() == 0
    os.close(terminal)
    assert "stub, NOT the network" in log


def make_repository(folder, source):
    """A repository with one step, complete for the checks before the start."""
    version = folder / "pem_network" / "1"
    version.mkdir(parents=True)
    (version.parent / "config.pbtxt").write_text(CONFIG)
    (version / "model.py").write_text(source)
    (version / "model.onnx").touch()
    return folder


def get(port, path, body=None):
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port)) as connection:
        connection.request("POST" if body else "GET", path, body)
        answer = connection.getresponse()
        assert answer.status == 200
        return answer.read().decode()


def infer(port):
    text = {"name": "text", "datatype": "BYTES", "shape": [1, 1], "data": ["x"]}
    answer = get(port, "/v2/models/pem_network/infer", json.dumps({"inputs": [text]}))
    return json.loads(answer)["outputs"][0]["data"][0]


def serve_in_terminal(repository, *options):
    """Start the command in the foreground of a terminal of its own."""
    terminal, other_end = pty.openpty()
    take_terminal = (
        "import fcntl, os, sys, termios\n"
        "fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
        "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])\n"
    )
    arguments = ["-m", "pem_server", "serve", "--repository", str(repository), *options]
    arguments += ["--http-port=0", "--grpc-port=0", "--metrics-port=0"]
    serve = subprocess.Popen(
        [sys.executable, "-c", take_terminal, *arguments],
        stdin=other_end,
        stdout=other_end,
        stderr=other_end,
        start_new_session=True,
    )
    os.close(other_end)
    return terminal, serve


def read_until(terminal, words):
    seen = ""
    while words not in seen:
        seen += os.read(terminal, 1000).decode()  # OSError when the command has ended
    return seen


def scratch_names(repository):
    return [folder.name for folder in (repository.parent / "scratch").iterdir()]


def regions(names):
    return [str(region) for name in names for region in Path("/dev/shm").glob(f"{name}*")]


def processes(repository):
    """The command lines of all processes of this test, by process id."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has just ended
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            if str(repository.parent) in command:
                found[int(process.name)] = command
    return found


def leftovers(repository, names):
    """Processes, shared memory regions and scratch folders that are still there."""
    return [*processes(repository).values(), *regions(names), *scratch_names(repository)]
