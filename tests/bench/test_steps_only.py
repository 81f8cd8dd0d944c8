"""A server without its network under load: each of its processes is counted."""

import json
import os
from contextlib import ExitStack
from pathlib import Path

import pytest

from pem_bench import cli
from pem_bench.processes import cpu_by_role, memory_mb
from pem_bench.systems import no_network


def test_each_process_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
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


def test_freed_memory_is_kept_unless_set(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "123456")
    image = (root / "docs" / "street.jpg").read_bytes()
    with ExitStack() as stack:
        system = no_network("steps", root / "model_repository").start(stack, image)
        assert os.getpid() not in system.pids
        assert 0 < memory_mb(system.pids[:1]) < memory_mb(system.pids)
        environments = [Path(f"/proc/{pid}/environ").read_text() for pid in system.pids]
    assert (memory_mb(system.pids), cpu_by_role(system.pids)) == (0, {})  # they have ended
    servers = [text.split("\0") for text in environments if "MALLOC_MMAP_THRESHOLD_" in text]
    assert len(servers) >= 5  # tritonserver and four steps
    for environment in servers:
        assert "MALLOC_TRIM_THRESHOLD_=123456" in environment
        assert f"MALLOC_MMAP_THRESHOLD_={32 * 2**20}" in environment
