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

CONFIG = """
name: "pem_network"
backend: "python"
max_batch_size: 8
input [{ name: "text" data_type: TYPE_STRING dims: [1] }]
output [{ name: "text" data_type: TYPE_STRING dims: [1] }]
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
REFUSING, SLOW = 'raise FileNotFoundError("the graph is not there")', "time.sleep(60)"
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
        text = {"name": "text", "datatype": "BYTES", "shape": [1, 1], "data": ["x"]}
        body = json.dumps({"inputs": [text]})
        answer = json.loads(get(server.http_port, "/v2/models/pem_network/infer", body))
        seen = json.loads(answer["outputs"][0]["data"][0])
        assert seen == [sys.prefix, [], "1"]  # its working folder is empty
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
        programs = {number: line.split()[0] for number, line in processes(repository).items()}
        [server_id] = [n for n, program in programs.items() if program.endswith("/tritonserver")]
        os.kill(server_id, signal.SIGKILL)
        with pytest.raises(LocalServerError, match="137"):
            server.wait()
    assert leftovers(repository, names) == []


def test_a_launcher_that_is_killed_leaves_nothing(repository):
    program = (
        "import pathlib, sys, pem_server, time\n"
        "with pem_server.TritonServer(pathlib.Path(sys.argv[1])) as server:\n"
        "    server.wait_until_ready(); print('ready', flush=True); time.sleep(60)\n"
    )
    command = [sys.executable, "-c", program, str(repository)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as launcher:
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
    failing = make_repository(tmp_path / "failing", FAILING + source)
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
    stub = ["--stub-network", "20:5"] if ending == "SIGTERM" else []
    with serve_in_terminal("--repository", str(repository), *stub) as (terminal, serve):
        log = read_until(terminal, "IS A STUB: 20 ms a batch and 5 ms" if stub else "stop ")
        assert ("stub, NOT the network" in log) == bool(stub)
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
    assert leftovers(repository, names) == []


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


@contextlib.contextmanager
def serve_in_terminal(*options):
    """Run the command in the foreground of a terminal of its own."""
    terminal, other_end = pty.openpty()
    take_terminal = (
        "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n"
        "os.execv(sys.executable, [sys.executable, '-m', 'pem_server', 'serve', *sys.argv[1:]])"
    )
    ports = ["--http-port=0", "--grpc-port=0", "--metrics-port=0"]
    command = [sys.executable, "-c", take_terminal, *ports, *options]
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), other_end)
    with subprocess.Popen(command, **streams, start_new_session=True) as serve:
        os.close(other_end)
        yield terminal, serve
    os.close(terminal)


def read_until(terminal, words):
    seen = ""
    while words not in seen:
        seen += os.read(terminal, 1000).decode()  # OSError when the command has ended
    return seen


def scratch_names(repository):
    return os.listdir(repository.parent / "scratch")


def regions(names):
    return [str(region) for name in names for region in Path("/dev/shm").glob(f"{name}*")]


def processes(repository):
    """The command lines of all processes of this test, by process id."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has just ended
            found[int(process.name)] = (process / "cmdline").read_text().replace("\0", " ")
    return {number: line for number, line in found.items() if str(repository.parent) in line}


def leftovers(repository, names):
    """Processes, shared memory regions and scratch folders that are still there."""
    return [*processes(repository).values(), *regions(names), *scratch_names(repository)]
