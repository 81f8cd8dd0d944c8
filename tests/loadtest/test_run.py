"""Whole runs by locust against the real server, whose network is a stand-in.

What a verdict needs is far beyond what a busy machine changes: a goal of a minute is met, one of a
millisecond is missed, and one user cannot send fifty images a second on time.
"""

import csv
import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pem_loadtest.capacity import read_capacity
from pem_server import TritonServer
from pem_server.stub_network import Cost, stub_repository


def loadtest(
    server: TritonServer, output: Path, *arguments: str, scheme: str = "grpc"
) -> tuple[int, dict[str, Any], str]:
    """(exit code, report, standard output) of a run of three seconds."""
    address = server.grpc_url if scheme == "grpc" else server.http_url
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "pem_loadtest", "--host", f"{scheme}://{address}"),
            *("--metrics", server.metrics_url, "--output", str(output)),
            *("--rate", "10", "--seconds", "3", "--warm-up", "0.5", "--broken", "0.2"),
            *("--lateness-limit", "3000", "--latency-goal", "60000"),
            *arguments,
        ],
        capture_output=True,
        text=True,
        timeout=240,
    )
    report = output / "report.json"
    assert report.is_file(), ended.stderr
    return ended.returncode, json.loads(report.read_text()), ended.stdout + ended.stderr


@pytest.mark.parametrize(
    ("scheme", "more"),
    [("grpc", []), ("http", []), ("grpc", ["--processes", "2"])],
    ids=["grpc", "http", "two processes"],
)
def test_a_run_that_meets_its_goals_ends_with_0_and_leaves_a_report(
    server: TritonServer, tmp_path: Path, scheme: str, more: list[str]
) -> None:
    code, report, said = loadtest(server, tmp_path, *more, scheme=scheme)
    assert (code, report["verdict"], report["reasons"]) == (0, "pass", []), said
    assert "STAND-IN" in said
    [step] = report["steps"]
    assert step["answered"] > 0
    assert step["refused_as_broken"] > 0
    assert step["answered"] + step["refused_as_broken"] == step["sent"]
    assert step["server"]["pem_network"]["compute_ms"] >= 25
    assert step["p50_ms"] >= 25
    with Image.open(tmp_path / "latency.png") as image:
        assert image.size == (960, 576)
    with (tmp_path / "requests.csv").open() as stream:
        assert len(list(csv.DictReader(stream))) == step["sent"]
    with (tmp_path / "steps.csv").open() as stream:
        assert [row["label"] for row in csv.DictReader(stream)] == ["10/s"]
    assert (tmp_path / "locust.html").is_file()


def test_in_a_closed_loop_one_user_has_one_image_on_the_way(
    server: TritonServer, tmp_path: Path
) -> None:
    code, report, said = loadtest(server, tmp_path, "--closed", "1")
    assert code == 0, said
    with (tmp_path / "requests.csv").open() as stream:
        rows = [(float(row["due_s"]), float(row["latency_ms"])) for row in csv.DictReader(stream)]
    assert len(rows) == report["steps"][0]["sent"] > 2
    for (due, latency), (later, _) in itertools.pairwise(rows):
        assert later >= due + latency / 1e3 - 1e-3


def test_a_missed_goal_ends_with_1(server: TritonServer, tmp_path: Path) -> None:
    code, report, said = loadtest(server, tmp_path, "--latency-goal", "1")
    assert (code, report["verdict"]) == (1, "missed"), said
    assert "the goal is 1" in report["reasons"][0]


def test_a_load_that_was_not_sent_as_planned_ends_with_3(
    server: TritonServer, tmp_path: Path
) -> None:
    code, report, said = loadtest(server, tmp_path, "--rate", "50", "--users", "1")
    assert (code, report["verdict"]) == (3, "invalid"), said
    assert "found all users busy" in report["reasons"][0]


def test_a_run_that_locust_ends_early_ends_with_3(server: TritonServer, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="INVALID"):  # there is no report to read
        loadtest(server, tmp_path, "--seconds", "60", "--run-time", "3s")


def test_a_ladder_finds_the_knee_and_writes_the_capacity(root: Path, tmp_path: Path) -> None:
    """400 ms a batch of 8 is 20 a second: 7 meet the goal on any machine, 56 on none."""
    file = tmp_path / "capacity.env"
    with (
        stub_repository(root / "model_repository", Cost(400, 0)) as repository,
        TritonServer(repository) as server,
    ):
        server.wait_until_ready()
        code, report, said = loadtest(
            server,
            tmp_path,
            *("--shape", "ladder", "--rate", "7", "--tolerance", "0.9", "--broken", "0"),
            *("--latency-goal", "3000", "--users", "200"),
            *("--capacity-file", str(file), "--machine", "a box"),
        )
    assert (code, report["verdict"]) == (0, "pass"), said
    knee = report["knee_images_per_second"]
    assert 7 <= knee < 56
    batches = [step["server"]["pem_network"]["batch"] for step in report["steps"]]
    assert max(batches) > 1.5, "users must not wait for each other, as without gRPC's gevent mode"
    assert {step["verdict"] for step in report["steps"]} >= {"pass", "missed"}
    capacity = read_capacity(file)
    assert capacity.capacity_images_per_second == pytest.approx(knee, abs=0.1)
    assert (capacity.protocol, capacity.machine) == ("grpc", "a box")
    assert "STAND-IN" in capacity.model


def test_a_ladder_without_a_knee_writes_no_capacity(server: TritonServer, tmp_path: Path) -> None:
    file = tmp_path / "capacity.env"
    ladder = ["--shape", "ladder", "--seconds", "2", "--rate", "6", "--highest-rate", "6"]
    code, report, said = loadtest(server, tmp_path, *ladder, "--capacity-file", str(file))
    assert code == 1, said
    assert "lies above --highest-rate" in report["reasons"][0]
    assert not file.exists()


def test_a_recording_that_is_not_there_ends_with_2(tmp_path: Path) -> None:
    replay = ["--shape", "replay", "--timestamps", str(tmp_path / "none")]
    ended = subprocess.run(
        [sys.executable, "-m", "pem_loadtest", *replay],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 2
    assert "No such file" in ended.stderr


def test_a_server_that_is_not_there_ends_with_2(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "pem_loadtest", "--host", "grpc://127.0.0.1:1"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 2
    assert "grpc://127.0.0.1:1" in ended.stderr
