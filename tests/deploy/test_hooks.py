"""The drain's and the probe's own logic, without a server."""

import http.server
import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

PAGE = """\
# HELP nv_inference_request_success Number of successful inference requests
nv_inference_request_success{model="pem_network",version="1"} %d
nv_inference_request_failure{model="pem_network",reason="OTHER",version="1"} 2
nv_inference_exec_count{model="pem_network",version="1"} 3
nv_inference_queue_duration_us{model="pem_network",version="1"} 1234
nv_inference_pending_request_count{model="pem_network",version="1"} %d
nv_inference_pending_request_count{model="pem_preprocess",version="1"} 1e0
"""


@pytest.fixture(scope="module")
def drain(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("hooks/drain.py")


@pytest.fixture(scope="module")
def alive(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("hooks/alive.py")


class Clock:
    """A clock that sleeping advances."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def run_drain(
    drain: ModuleType, page_at: Callable[[float], str], settle: float = 8.0, cap: float = 45.0
) -> tuple[str, float]:
    """How a drain ends and after how long, when the metrics at second t are page_at(t)."""
    clock = Clock()
    ended = drain.drain(
        lambda: page_at(clock.now - 100),
        settle_s=settle,
        idle_s=2.0,
        cap_s=cap,
        clock=clock,
        sleep=clock.sleep,
    )
    return ended, clock.now - 100


@pytest.mark.parametrize(("page", "found"), [("", (0, 0)), (PAGE % (5, 7), (8, 10))])
def test_work_is_what_waits_and_what_was_done(
    page: str, found: tuple[float, float], drain: ModuleType
) -> None:
    assert drain.work(page) == found


def test_an_idle_server_is_drained_after_settling_and_the_idle_time(drain: ModuleType) -> None:
    assert run_drain(drain, lambda now: "") == ("idle", 10.0)


def test_a_drain_waits_while_requests_end(drain: ModuleType) -> None:
    page = "nv_inference_request_success{} %d\n"
    ended, after = run_drain(drain, lambda now: page % min(now, 20))
    assert ended == "idle"
    assert 22 <= after <= 23


def test_a_drain_waits_while_requests_wait(drain: ModuleType) -> None:
    page = "nv_inference_pending_request_count{} %d\n"
    ended, after = run_drain(drain, lambda now: page % (now < 30))
    assert ended == "idle"
    assert 31.5 <= after <= 33


def test_a_drain_gives_up_at_its_cap(drain: ModuleType) -> None:
    ended, after = run_drain(drain, lambda now: f"nv_inference_exec_count{{}} {now}\n")
    assert ended == "still busy"
    assert 45 <= after <= 45.5


def test_a_cap_below_the_settling_time_wins(drain: ModuleType) -> None:
    assert run_drain(drain, lambda now: "", settle=8, cap=3) == ("still busy", 3.0)


def test_a_server_that_is_gone_is_drained(drain: ModuleType) -> None:
    def page(now: float) -> str:
        raise ConnectionRefusedError

    assert run_drain(drain, page) == ("gone", 8.0)


@contextmanager
def answering(status: int, body: bytes) -> Iterator[str]:
    """A server that answers every request so; gives its address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def body_with(data: str) -> bytes:
    """The JSON of an answer whose only output is `data`."""
    return json.dumps({"outputs": [{"name": "detections", "data": [data]}]}).encode()


def test_the_probe_sends_an_image(alive: ModuleType) -> None:
    with Image.open(BytesIO(alive.image())) as image:
        image.load()
        assert image.size == (8, 8)


@pytest.mark.parametrize(
    ("status", "body", "is_alive"),
    [
        (200, body_with('{"detections": []}'), True),
        (503, b'{"error": "Exceeds maximum queue size"}', True),  # busy: no reason to restart
        (200, body_with(""), False),  # what a wrong numpy makes of every tensor
        (200, b'{"outputs": []}', False),
        (200, b"welcome", False),
        (500, b'{"error": "Stub process is not healthy"}', False),
        (400, b'{"error": "bad"}', False),
    ],
)
def test_the_probe_looks_into_the_answer(
    status: int, body: bytes, is_alive: bool, alive: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    with answering(status, body) as url:
        assert alive.main(["--url", url]) == (0 if is_alive else 1)
    assert ("restart it" in capsys.readouterr().err) is not is_alive


def test_the_probe_says_that_nobody_listens(
    alive: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    with answering(200, b"") as url:
        pass
    assert alive.main(["--url", url]) == 1
    assert "Connection refused" in capsys.readouterr().err


def test_a_start_clears_what_a_killed_server_left(deploy: Path, tmp_path: Path) -> None:
    for name in ("triton_python_backend_shm_region_1", "pem-server-x1-2", "somebody-elses"):
        (tmp_path / name).touch()
    command = ["sh", deploy / "hooks" / "start.sh", tmp_path, "echo", "two words"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout == "two words\n"
    assert [file.name for file in tmp_path.iterdir()] == ["somebody-elses"]
