"""`./run serve` in a terminal of its own: signals, killed processes, taken ports, a full queue."""

import concurrent.futures
import contextlib
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from leftovers import leftovers, regions, scratch_names
from polling import poll

from pem_client import Client, PemError
from pem_server.checkout import ROOT
from pem_server.ports import free_ports

CTRL_C = b"\x03"
TAKE_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, "-m", "pem_gateway", "serve", *sys.argv[1:]])
"""


class Serving:
    """The command, with a stub network, on free ports, with its scratch folders in `folder`."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        (folder / "scratch").mkdir()
        numbers = self.http, self.grpc, self.metrics = free_ports(3)
        names = ("http", "grpc", "metrics")
        ports = [f"--{name}-port={port}" for name, port in zip(names, numbers, strict=True)]
        self._terminal, other_end = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", TAKE_TERMINAL, *ports, *options],
            stdin=other_end,
            stdout=other_end,
            stderr=other_end,
            start_new_session=True,
            env={**os.environ, "TMPDIR": str(folder / "scratch")},
        )
        os.close(other_end)
        self.names: list[str] = []

    def read_until(self, words: str) -> str:
        """What it prints; OSError when it ends before."""
        seen = ""
        while words not in seen:
            seen += os.read(self._terminal, 1000).decode()
        self.names = scratch_names(self.folder)
        return seen

    def type(self, keys: bytes) -> None:
        os.write(self._terminal, keys)

    def rest(self) -> str:
        """What it printed until its end."""
        seen = b""
        with contextlib.suppress(OSError):
            while part := os.read(self._terminal, 1000):
                seen += part
        return seen.decode()

    def status(self, path: str) -> int:
        """The status of a GET; 0 where nothing listens."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.http}{path}") as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def arrived(self) -> float:
        """How many images were accepted so far."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics}/metrics") as page:
            text = page.read().decode()
        counts = re.findall(r"^pem_gateway_images_(?:waiting|answered_total) (\S+)$", text, re.M)
        return sum(map(float, counts))

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._terminal)


@pytest.fixture
def serving(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Serving]:
    command = Serving(tmp_path, "--stub-network=20:5", *getattr(request, "param", ()))
    yield command
    command.close()


@pytest.mark.parametrize(
    ("serving", "ending", "code"),
    [
        ((), "ctrl-c", 0),
        (("--settle=600",), "ctrl-c twice", 130),
        ((), "SIGTERM", 0),
        ((), "SIGHUP", 0),
    ],
    indirect=["serving"],
)
def test_it_stops_on_a_signal_and_leaves_nothing(serving: Serving, ending: str, code: int) -> None:
    log = serving.read_until("THE NETWORK IS A STUB: 20 ms a batch and 5 ms an image")
    assert regions(serving.names)  # else the check below could not fail
    if ending.startswith("SIG"):
        serving.process.send_signal(signal.Signals[ending])
    else:
        serving.type(CTRL_C)
    log += serving.read_until("stopping")
    if ending == "ctrl-c twice":
        serving.type(CTRL_C)
    assert serving.process.wait() == code
    assert "stub, NOT the network" in log
    assert leftovers(serving.folder, serving.names) == []


def test_it_stops_while_it_starts(serving: Serving) -> None:
    serving.read_until("starting")
    assert poll(lambda: scratch_names(serving.folder))
    assert serving.status("/live") in (0, 200)
    serving.type(CTRL_C)
    assert serving.process.wait() == 0
    assert "Traceback" not in serving.rest()
    assert leftovers(serving.folder, serving.names) == []


def test_a_killed_gateway_leaves_nothing(serving: Serving) -> None:
    serving.read_until("stop ")
    serving.process.kill()
    serving.process.wait()
    left = poll(lambda: leftovers(serving.folder, serving.names), lambda left: not left)
    assert left == []


def test_a_killed_supervisor_leaves_only_the_next_server(serving: Serving) -> None:
    serving.read_until("stop ")
    (supervisor,) = psutil.Process(serving.process.pid).children()
    supervisor.kill()
    first = list(serving.names)
    serving.read_until("restarted")
    assert poll(lambda: serving.status("/ready") == 200)
    assert regions(first) == []
    assert not set(first) & set(scratch_names(serving.folder))
    serving.type(CTRL_C)
    serving.read_until("stopping")
    assert serving.process.wait() == 0
    assert leftovers(serving.folder, scratch_names(serving.folder)) == []


@pytest.mark.parametrize("port", ["http", "grpc", "metrics"])
def test_a_taken_port_is_one_sentence(port: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        number = listener.getsockname()[1]
        command = Serving(tmp_path, "--stub-network=20:5", f"--{port}-port={number}")
        told = command.rest()
        assert command.process.wait() == 1
        command.close()
    assert told.count("\n") == 1
    assert str(number) in told
    assert f"--{port}-port" in told
    assert leftovers(tmp_path, []) == []


def test_no_accepted_request_is_lost_when_it_stops(tmp_path: Path) -> None:
    serving = Serving(tmp_path, "--stub-network=20:300", "--settle=1", "--limit-seconds=60")
    image = ROOT / "docs" / "street.jpg"

    def ask(number: int) -> int:
        url = f"http://127.0.0.1:{serving.http}" if number % 2 else f"127.0.0.1:{serving.grpc}"
        with Client(url) as client:
            return len(client.infer(image))

    try:
        serving.read_until("stop ")
        with concurrent.futures.ThreadPoolExecutor(24) as pool:
            accepted = [pool.submit(ask, number) for number in range(24)]
            assert poll(lambda: serving.arrived() >= 24)
            assert not all(each.done() for each in accepted)
            serving.process.send_signal(signal.SIGTERM)
            assert poll(lambda: serving.status("/ready")) == 503
            late = ask(0)  # within the settling time
            answers = [each.result() for each in accepted]
        assert answers == [late] * 24
        assert serving.process.wait() == 0
        with pytest.raises(PemError):
            ask(0)
        assert leftovers(tmp_path, serving.names) == []
    finally:
        serving.close()
