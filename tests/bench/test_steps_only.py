"""A server without its network under load: every process is counted, and peers must agree."""

import json
import os
from contextlib import ExitStack
from pathlib import Path

import pytest

from pem_bench import cli
from pem_bench.end_to_end import difference
from pem_bench.systems import no_network


def test_each_process_of_the_server_is_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quick = ["--rounds", "1", "--turn-seconds", "1", "--in-flight", "4"]
    assert cli.main(["steps", *quick, "--output", str(tmp_path)]) == 0
    assert "pem_preprocess" in capsys.readouterr().out
    content = json.loads((tmp_path / "steps.json").read_text())
    assert {row["protocol"] for row in content["rows"]} == {"grpc", "http"}
    for row in content["rows"]:
        working = {name for name, spent in row["cpu_ms"].items() if spent > 0}
        assert working >= {"tritonserver", "pem_preprocess", "pem_network", "pem_postprocess"}
        assert row["answers"] > 0
        assert row["failures"] == 0
        assert row["server_cpu_ms"] == pytest.approx(sum(row["cpu_ms"].values()))


def test_the_steps_keep_freed_memory_unless_the_user_says_otherwise(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "123456")
    image = (root / "docs" / "street.jpg").read_bytes()
    with ExitStack() as stack:
        system = no_network("steps", root / "model_repository").start(stack, image)
        assert os.getpid() not in system.pids
        environments = [Path(f"/proc/{pid}/environ").read_text() for pid in system.pids]
    servers = [text.split("\0") for text in environments if "MALLOC_MMAP_THRESHOLD_" in text]
    assert len(servers) >= 5  # tritonserver and four steps
    for environment in servers:
        assert "MALLOC_TRIM_THRESHOLD_=123456" in environment
        assert f"MALLOC_MMAP_THRESHOLD_={32 * 2**20}" in environment


def test_a_system_that_finds_something_else_is_not_measured() -> None:
    empty = json.dumps({"detections": [], "latency": {}}).encode()
    answer = {"bbox": [0, 0, 1, 1], "conf": 0.9, "cls_id": 2, "label": "sky", "mask": PIXEL}
    reference = json.dumps({"detections": [answer], "latency": {}}).encode()
    assert difference("peer", reference, reference).missing == 0
    with pytest.raises(cli.BenchError, match=r"peer .* 1 missing"):
        difference("peer", empty, reference)


PIXEL = (  # a PNG of one white pixel
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABAQAAAAA3bvkkAAAACklEQVR4nGP4DwABAQEAsTHb1AAAAABJRU5ErkJggg=="
)
