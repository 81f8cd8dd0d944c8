"""The real tritonserver with one tiny model: it starts, answers, and leaves nothing behind."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile

import pytest
from leftovers import leftovers, process_of, regions, scratch_names
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
        names = scratch_names(repository.parent)
        assert regions(names)  # else the check below could not fail
        text = {"name": "text", "datatype": "BYTES", "shape": [1, 1], "data": ["x"]}
        body = json.dumps({"inputs": [text]})
        answer = json.loads(get(server.http_port, "/v2/models/pem_network/infer", body))
        seen = json.loads(answer["outputs"][0]["data"][0])
        assert seen == [sys.prefix, [], "1"]  # its working folder is empty
        assert any("a warning of the step" in line for line in lines)
        assert get(server.metrics_port, "/metrics").startswith("# HELP nv_")
    assert any("Signal (15)" in line for line in lines)  # a graceful stop
    assert leftovers(repository.parent, names) == []
    assert not server.is_running()


def test_a_stop_with_a_connected_client_leaves_nothing(repository):
    with TritonServer(repository, exit_timeout_s=1) as server:
        server.wait_until_ready()
        names = scratch_names(repository.parent)
        idle = http.client.HTTPConnection("127.0.0.1", server.http_port)
        idle.request("GET", "/v2/health/live")
        idle.getresponse().read()
    idle.close()
    assert leftovers(repository.parent, names) == []


def test_ctrl_c_in_a_program_kills_instead_of_waiting_for_requests(repository):
    lines = []
    server = TritonServer(repository, on_log=lines.append)
    with contextlib.suppress(KeyboardInterrupt), server:
        server.wait_until_ready()
        names = scratch_names(repository.parent)
        raise KeyboardInterrupt
    assert not any("Signal (15)" in line for line in lines)
    assert leftovers(repository.parent, names) == []


def test_a_server_that_dies_is_reported_and_leaves_nothing(repository):
    with TritonServer(repository) as server:
        server.wait_until_ready()
        names = scratch_names(repository.parent)
        os.kill(process_of(repository.parent, "/tritonserver"), signal.SIGKILL)
        with pytest.raises(LocalServerError, match="137"):
            server.wait()
    assert leftovers(repository.parent, names) == []


def test_a_launcher_that_is_killed_leaves_nothing(repository):
    program = (
        "import pathlib, sys, pem_server, time\n"
        "with pem_server.TritonServer(pathlib.Path(sys.argv[1])) as server:\n"
        "    server.wait_until_ready(); print('ready', flush=True); time.sleep(60)\n"
    )
    command = [sys.executable, "-c", program, str(repository)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as launcher:
        assert launcher.stdout.readline() == "ready\n"
        names = scratch_names(repository.parent)
        assert regions(names)
        launcher.kill()
    # Nobody waits for the clean-up after a launcher that is gone.
    assert poll(lambda: leftovers(repository.parent, names), lambda left: not left) == []


def test_a_supervisor_that_is_killed_leaves_nothing_once_the_launcher_notices(repository):
    with TritonServer(repository) as server:
        server.wait_until_ready()
        names = scratch_names(repository.parent)
        os.kill(server.pid, signal.SIGKILL)
        with pytest.raises(LocalServerError):
            server.wait()
        server.kill()
        assert leftovers(repository.parent, names) == []


def test_a_stopped_supervisor_is_no_obstacle(repository):
    with TritonServer(repository) as server:
        server.wait_until_ready()
        names = scratch_names(repository.parent)
        os.kill(server.pid, signal.SIGSTOP)
        server.kill()
        assert leftovers(repository.parent, names) == []


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
    assert leftovers(failing.parent, scratch_names(repository.parent)) == []


def test_a_port_in_use_is_refused_with_its_option(repository):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(LocalServerError, match=rf"{port}.*--grpc-port"):
            TritonServer(repository, grpc_port=port).start()
    assert scratch_names(repository.parent) == []


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
