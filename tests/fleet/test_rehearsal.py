"""The fleet test: its parts with fakes, and slowly the whole with real programs."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from pem_fleet import cli
from pem_fleet.rehearsal import live_loop, rehearsal
from pem_fleet.rehearsal.autoscaler import Policy, Rules, Scaling
from pem_fleet.rehearsal.live_loop import LiveLoop
from pem_fleet.rehearsal.rehearsal_setup import read_setup
from pem_fleet.rehearsal.replayed_load import Request, read_requests
from pem_fleet.rehearsal.timeline import Plan, Sample

PROGRAMS = (*rehearsal.NEEDED, "kubectl")
needs_programs = pytest.mark.skipif(
    not all(map(shutil.which, PROGRAMS)), reason=f"needs {', '.join(PROGRAMS)}"
)

SHORT = ["--time-scale=20", "--seconds=100", "--most=2", "--high=1.6", "--capacity=6"]
AT_ONCE = Rules((Policy("Percent", 900, 15.0),), window_s=0.0)


class FakeCluster:
    """Servers that are ready at once, and a Prometheus with one demand a query, then none."""

    def __init__(self, *demands):
        self.ready, self.demands = 0, {"pem:demand_rps": list(demands)}

    def resize(self, count):
        self.ready = count

    def count(self, *states):
        return self.ready if "ready" in states else 0

    def value(self, query):
        return self.demands[query].pop(0) if self.demands[query] else None


@pytest.fixture
def setup():
    """The part of a setup that the loop reads; syncs follow each other without a pause."""
    plan = Plan(((20.0, 2.0), (40.0, 12.0), (40.0, 2.0)), 5.0, 1, 4, 1.0, 3)
    trigger = SimpleNamespace(query="pem:demand_rps", threshold=5.0)
    front, life = SimpleNamespace(http=1, grpc=2), SimpleNamespace(startup=None)
    server = {"trigger": trigger, "front": front, "life": life, "plan": plan}
    numbers = {"sync_s": 0.0, "time_scale": 10.0, "seed": 1}
    return SimpleNamespace(scaling=Scaling(1, 4, AT_ONCE, AT_ONCE), **server, **numbers)


def test_the_loop_starts_the_least_servers_and_follows_the_demand(setup, monkeypatch, capsys):
    monkeypatch.setattr(live_loop, "probe_succeeds", lambda probe, port: True)
    monkeypatch.setattr(live_loop.target_server, "problem", lambda url: None)
    monkeypatch.setattr(live_loop.time, "sleep", lambda _: None)
    # Unknown at first; then the start is over, and each sync has one answer or none.
    fake = FakeCluster(None, 1.0, 12.0, None, 99.0, 1.0)
    loop = LiveLoop(setup, fake, fake)
    loop.start()
    assert fake.ready == 1
    for _ in range(4):
        loop.step()
    loop.finish()
    assert [sample.desired for sample in loop.samples] == [3, 3, 4, 1]
    assert loop.samples[1].demand is None
    assert "99.00/s" in capsys.readouterr().err


def test_the_report_has_the_verdict_the_numbers_and_a_plot(setup, tmp_path):
    samples = [Sample(float(at), 2.0, 1, 1, 0, 0) for at in range(0, 100, 5)]
    requests = [Request(float(at), "answered", 0.1) for at in range(3)]
    facts = {"drains": ["idle after 1 s"], "sent": 3}
    rehearsal.write_report(setup, samples, requests, facts, ["too slow"], tmp_path)
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["verdict"], report["problems"]) == ("fail", ["too slow"])
    assert report["outcomes"] == {"answered": 3}
    assert len(report["samples"]) == len(samples)
    assert (tmp_path / "fleet-test.png").stat().st_size > 10_000


@needs_programs
def test_the_setup_takes_its_numbers_from_the_manifests():
    setup = read_setup(cli._parser().parse_args(["fleet-test", *SHORT]))
    assert setup.scaling.maximum == len(setup.slots) == 2
    assert setup.trigger.threshold == pytest.approx(0.65 * 6, rel=0.01)
    assert [seconds for seconds, _ in setup.plan.steps] == [15, 30, 55]
    assert setup.sync_s == 15 / 20
    assert setup.life.startup.path


@pytest.fixture
def scratch():
    """A short path, as sockets need; every program of the test has it in its command line."""
    with tempfile.TemporaryDirectory(prefix="pf") as folder:
        yield Path(folder)


def start(scratch, *options):
    command = [sys.executable, "-m", "pem_fleet", "fleet-test", "--output", str(scratch / "output")]
    environment = {**os.environ, "TMPDIR": str(scratch)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen([*command, *SHORT, *options], env=environment, **pipes)


def left(scratch):
    """Command lines of programs that still run, and what they left in the scratch folder."""
    running = psutil.process_iter(["cmdline"])
    lines = [" ".join(process.info["cmdline"] or ()) for process in running]
    files = [path.name for path in scratch.iterdir() if path.name != "output"]
    return [line for line in lines if str(scratch) in line] + files


@pytest.mark.slow
@needs_programs
def test_servers_follow_the_load_and_nothing_is_lost(scratch):
    run = start(scratch, "--goal", "8000")
    printed, _ = run.communicate(timeout=400)
    assert run.returncode == 0, printed
    assert (scratch / "output" / "fleet-test.png").stat().st_size > 10_000
    outcomes = {one.outcome for one in read_requests(scratch / "output/load/requests.csv")}
    assert outcomes == {"answered"}
    assert left(scratch) == []


@pytest.mark.slow
@needs_programs
def test_an_interruption_leaves_nothing(scratch):
    run = start(scratch)
    for line in run.stdout:
        if line.lstrip().startswith("at "):  # the head of the timeline: all run by now
            break
    time.sleep(3)
    assert len(left(scratch)) > 4  # else there was nothing to leave
    run.send_signal(signal.SIGINT)
    run.communicate(timeout=60)
    assert run.returncode == cli.INTERRUPTED
    assert left(scratch) == []
