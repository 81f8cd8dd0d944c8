"""The loop for real, once and short: servers, HAProxy, Prometheus, locust. About 100 seconds."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pem_fleet import cli, live
from pem_fleet.load import read_requests

pytestmark = pytest.mark.skipif(
    any(not shutil.which(name) for name in (*live.NEEDED, "kubectl")),
    reason="haproxy, prometheus and kubectl must be installed for the test with real servers",
)

SHORT = ("--quicken", "20", "--seconds", "100", "--most", "2", "--high", "1.6", "--capacity", "6")


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A short path, as sockets need; every program of the test has it in its command line."""
    with tempfile.TemporaryDirectory(prefix="pf") as folder:
        yield Path(folder)


def start(scratch: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "pem_fleet", "fleet-test", "--output", str(scratch / "output")]
    return subprocess.Popen(
        [*command, *SHORT, *options],
        env={**os.environ, "TMPDIR": str(scratch)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def left(scratch: Path) -> list[str]:
    """Command lines of programs that still run, and what they left in the scratch folder."""
    lines = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = process.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it ended meanwhile
            continue
        if str(scratch) in line:
            lines.append(line)
    return lines + [path.name for path in scratch.iterdir() if path.name != "output"]


def test_servers_follow_the_load_and_nothing_is_lost(scratch: Path) -> None:
    run = start(scratch, "--goal", "8000")
    told, _ = run.communicate(timeout=400)
    assert run.returncode == 0, told
    assert "no image was lost" in told
    assert (scratch / "output" / "fleet-test.png").stat().st_size > 10_000
    outcomes = {one.outcome for one in read_requests(scratch / "output/load/requests.csv")}
    assert outcomes == {"answered"}
    assert left(scratch) == []
    assert cli.main(["simulate", "--check", str(scratch / "output/report.json")]) == 0


def test_an_interruption_leaves_nothing(scratch: Path) -> None:
    run = start(scratch)
    assert run.stdout
    for line in run.stdout:
        if line.lstrip().startswith("at "):  # the head of the timeline: all run by now
            break
    time.sleep(3)
    assert len(left(scratch)) > 4  # else there was nothing to leave
    run.send_signal(signal.SIGINT)
    run.communicate(timeout=60)
    assert run.returncode == cli.INTERRUPTED
    assert left(scratch) == []
