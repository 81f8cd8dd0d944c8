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


@pytest.fixture
def drain(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("hooks/drain.py")


@pytest.fixture
def alive(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("hooks/alive.py")


def run_drain(
    drain: ModuleType, page_at: Callable[[float], str], settle: float = 8.0, cap: float = 45.0
) -> tuple[str, float]:
    """How a drain ends and after how long, when the metrics at second t are page_at(t)."""
    now = [0.0]  # sleeping advances it

    def sleep(seconds: float) -> None:
        now[0] += seconds

    times = {"settle_s": settle, "idle_s": 2.0, "cap_s": cap}
    ended = drain.drain(lambda: page_at(now[0]), **times, clock=lambda: now[0], sleep=sleep)
    return ended, now[0]


@pytest.mark.parametrize(("page", "found"), [("", (0, 0)), (PAGE % (5, 7), (8, 10))])
def test_work_is_what_waits_and_what_was_done(
    page: str, found: tuple[float, float], drain: ModuleType
) -> None:
    assert drain.work(page) == found


def gone(now: float) -> str:
    raise ConnectionRefusedError


@pytest.mark.parametrize(
    ("page_at", "options", "ended", "earliest", "latest"),
    [
        (lambda now: "", {}, "idle", 10, 10),  # after settling and the idle time
        (lambda now: f"nv_inference_request_success{{}} {min(now, 20)}\n", {}, "idle", 22, 23),
        (
            lambda now: f"nv_inference_pending_request_count{{}} {int(now < 30)}\n",
            *({}, "idle", 31.5, 33),
        ),
        (lambda now: f"nv_inference_exec_count{{}} {now}\n", {}, "still busy", 45, 45.5),
        (lambda now: "", {"settle": 8, "cap": 3}, "still busy", 3, 3),
        (gone, {}, "gone", 8, 8),
    ],
)
def test_a_drain_lasts_until_the_server_is_idle_or_gone_but_no_longer_than_its_cap(
    page_at: Callable[[float], str],
    options: dict[str, float],
    ended: str,
    earliest: float,
    latest: float,
    drain: ModuleType,
) -> None:
    found, after = run_drain(drain, page_at, **options)
    assert found == ended
    assert earliest <= after <= latest


@contextmanager
def answering(status: int, body: bytes) -> Iterator[str]:
    """A server that answers every request so; gives its address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


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


def test_the_probe_fails_where_nobody_listens(
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
