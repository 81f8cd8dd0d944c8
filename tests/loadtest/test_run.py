"""Whole runs: three by locust against the real server, the others with fake workers.

The real ones need far more than what a busy machine changes: a goal of a minute is met, one user
cannot send fifty images a second, and the ladder's knee lies far from both of its ends.
"""

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pem_loadtest import cli, run_report
from pem_loadtest.capacity import read_capacity
from pem_loadtest.verdict import Verdict
from pem_server import TritonServer
from pem_server.stub_network import Cost, stub_repository

URL = "grpc://127.0.0.1:1"


def loadtest(
    server: TritonServer, output: Path, *arguments: str, scheme: str = "grpc"
) -> tuple[int, dict[str, Any], str]:
    """(exit code, report, output) of a run of three seconds."""
    address = server.grpc_url if scheme == "grpc" else server.http_url
    images = output / "images"
    images.mkdir()
    for size in ((64, 48), (48, 64)):
        Image.effect_noise(size, 80).save(images / f"{size}.png")
    command = [sys.executable, "-m", "pem_loadtest", "--host", f"{scheme}://{address}"]
    command += ["--metrics", server.metrics_url, "--output", str(output), "--images", str(images)]
    short = "--seconds 3 --warm-up 0.5 --lateness-limit 30000 --latency-goal 60000"
    command += [*short.split(), *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=600)
    report = output / "report.json"
    assert report.is_file(), ended.stderr
    return ended.returncode, json.loads(report.read_text()), ended.stdout + ended.stderr


def test_two_processes_that_meet_their_goals_end_with_0_and_leave_a_report(
    server: TritonServer, tmp_path: Path
) -> None:
    more = ["--rate", "10", "--broken", "0.2", "--processes", "2"]
    code, report, text = loadtest(server, tmp_path, *more, scheme="http")
    assert (code, report["verdict"], report["reasons"]) == (0, "pass", []), text
    [step] = report["steps"]
    assert step["answered"] > 0
    assert step["refused_as_broken"] > 0
    assert step["answered"] + step["refused_as_broken"] == step["sent"]
    assert step["server"]["pem_network"]["compute_ms"] >= 25
    assert step["p50_ms"] >= 25


def test_a_load_that_was_not_sent_as_planned_ends_with_3(
    server: TritonServer, tmp_path: Path
) -> None:
    code, report, text = loadtest(server, tmp_path, "--rate", "50", "--users", "1")
    assert (code, report["verdict"]) == (3, "invalid"), text
    assert "--users" in report["reasons"][0]


def test_a_ladder_finds_the_knee_and_writes_the_capacity(root: Path, tmp_path: Path) -> None:
    """800 ms a batch of 8 is 10 a second: 6 meet the goal on any machine, 48 on none."""
    file = tmp_path / "capacity.env"
    ladder = "--shape ladder --rate 6 --tolerance 1.5 --broken 0 --latency-goal 4000 --users 200"
    more = f"{ladder} --seconds 2.5 --machine box --capacity-file {file}".split()
    with (
        stub_repository(root / "model_repository", Cost(800, 0)) as repository,
        TritonServer(repository) as server,
    ):
        server.wait_until_ready()
        code, report, text = loadtest(server, tmp_path, *more)
    assert (code, report["verdict"]) == (0, "pass"), text
    knee = report["knee_images_per_second"]
    assert 6 <= knee < 48
    batches = [step["server"]["pem_network"]["batch"] for step in report["steps"]]
    assert max(batches) > 1.5, "users must not wait for each other, as without gRPC's gevent mode"
    assert {step["verdict"] for step in report["steps"]} >= {"pass", "missed"}
    capacity = read_capacity(file)
    assert capacity.capacity_images_per_second == pytest.approx(knee, abs=0.1)
    assert (capacity.protocol, capacity.machine) == ("grpc", "box")
    assert "STUB" in capacity.model


@pytest.mark.slow
def test_a_run_that_locust_ends_early_ends_with_3(server: TritonServer, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="INVALID"):  # there is no report to read
        loadtest(server, tmp_path, "--seconds", "60", "--run-time", "3s")


@pytest.fixture
def reported(
    fake_workers: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., Verdict]:
    """The verdict of a run with fake workers."""
    server = {"triton_version": "2.51.0", "model": "fai-pem-m-ade"}
    monkeypatch.setattr(run_report, "describe_server", lambda _: server)

    def run(*arguments: str) -> Verdict:
        fake = fake_workers("--output", str(tmp_path), *arguments)
        return run_report.run(fake.coordinator, fake.settings, URL)

    return run


def test_a_run_leaves_its_steps_its_requests_and_a_plot(
    reported: Callable[..., Verdict], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert reported("--rate", "20") is Verdict.PASS
    assert "PASS" in capsys.readouterr().out
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["verdict"] == "pass"
    [step] = report["steps"]
    with Image.open(tmp_path / "latency.png") as image:
        assert image.size == (960, 576)
    with (tmp_path / "requests.csv").open() as stream:
        assert len(list(csv.DictReader(stream))) == step["sent"] > 0
    with (tmp_path / "steps.csv").open() as stream:
        [row] = csv.DictReader(stream)
    assert (row["label"], row["sent"], row["reasons"]) == ("20/s", str(step["sent"]), "")
    assert row["timed_out"] == "0"
    assert not {"server", "failures"} & row.keys()


def test_a_ladder_without_a_knee_writes_no_capacity(
    reported: Callable[..., Verdict], tmp_path: Path
) -> None:
    file = tmp_path / "capacity.env"
    ladder = ["--shape", "ladder", "--highest-rate", "10", "--capacity-file", str(file)]
    assert reported(*ladder) is Verdict.MISSED
    assert not file.exists()


def test_a_recording_or_a_server_that_is_not_there_ends_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["--shape", "replay", "--timestamps", str(tmp_path / "none")])
    assert ended.value.code == 2
    assert str(tmp_path / "none") in capsys.readouterr().err
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    assert cli.main(["--host", URL, "--pictures", str(tmp_path)]) == 2
    printed = capsys.readouterr().err
    assert "--images" in printed, "the option of 0.1 is accepted with a warning"
    assert URL in printed
