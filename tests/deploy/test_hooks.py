"""The hooks' own logic, without a server."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pem_server.ports import free_ports

from .conftest import DEPLOY


def page(name: str, value: float) -> str:
    return f'# HELP nv_inference_{name} 1\nnv_inference_{name}{{model="a",version="1"}} {value}\n'


def gone(now: float) -> str:
    raise ConnectionRefusedError


@pytest.mark.parametrize(
    ("page_at", "cap", "ended", "after"),
    [
        (lambda now: "", 45, "idle", 10),  # after settling and the idle time
        (lambda now: page("request_success", min(now, 20)), 45, "idle", 22.5),
        (lambda now: page("request_failure", min(now, 20)), 45, "idle", 22.5),
        (lambda now: page("pending_request_count", int(now < 30)), 45, "idle", 32),
        (lambda now: page("queue_duration_us", now), 45, "idle", 10),  # is no work
        (lambda now: page("exec_count", now), 45, "still busy", 45),
        (lambda now: "", 3, "still busy", 3),
        (gone, 45, "gone", 8),
    ],
)
def test_a_drain_lasts_until_the_server_is_idle_or_gone_but_no_longer_than_its_cap(
    page_at: Callable[[float], str], cap: float, ended: str, after: float, load_source
) -> None:
    slept: list[float] = []  # advances the time
    found = load_source(DEPLOY / "hooks/drain.py").drain(
        lambda: page_at(sum(slept)),
        settle_s=8,
        idle_s=2,
        cap_s=cap,
        clock=lambda: sum(slept),
        sleep=slept.append,
    )
    assert found == ended
    assert sum(slept) == pytest.approx(after, abs=0.5)


def body_with(data: str) -> bytes:
    """The JSON of an answer whose only output is `data`."""
    return json.dumps({"outputs": [{"name": "detections", "data": [data]}]}).encode()


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (200, body_with('{"detections": []}'), 0),
        (503, b'{"error": "Exceeds maximum queue size"}', 0),  # busy: no reason to restart
        (200, body_with(""), 1),  # what a wrong numpy makes of every tensor
        (200, b'{"outputs": []}', 1),
        (200, b"welcome", 1),
        (500, b'{"error": "Stub process is not healthy"}', 1),
        (400, b'{"error": "bad"}', 1),
    ],
)
def test_the_probe_looks_into_the_answer(
    status: int, body: bytes, code: int, load_source, monkeypatch, capsys
) -> None:
    alive = load_source(DEPLOY / "hooks/alive.py")
    monkeypatch.setattr(alive, "_infer", lambda *_: (status, body))
    assert alive.main([]) == code
    assert ("restart it" in capsys.readouterr().err) is bool(code)


def test_the_probe_fails_where_nobody_listens(load_source, capsys) -> None:
    [port] = free_ports(1)
    assert load_source(DEPLOY / "hooks/alive.py").main([f"--url=http://127.0.0.1:{port}"]) == 1
    assert "Connection refused" in capsys.readouterr().err


def test_a_start_clears_what_a_killed_server_left(tmp_path: Path) -> None:
    for name in ("triton_python_backend_shm_region_1", "pem-server-x1-2", "somebody-elses"):
        (tmp_path / name).touch()
    command = ["sh", DEPLOY / "hooks" / "start.sh", tmp_path, "echo", "two words"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout == "two words\n"
    assert [file.name for file in tmp_path.iterdir()] == ["somebody-elses"]
