"""A real tritonserver with a stub network, scraped by a real Prometheus with the real rules."""

import json
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest
from polling import poll
from stub_server import running_stub

from pem_fleet.rehearsal.prometheus import scale_times
from pem_server import TritonServer, free_ports
from pem_server.stub_network import Cost

FASTER = 10  # every duration of the rules and of scraping is divided by this
COST = Cost(fixed_ms=400, per_image_ms=50)  # 2 images a second alone, 10 in full batches


@pytest.fixture(scope="session")
def monitoring(root: Path) -> Path:
    """The folder of rules, configuration and dashboard."""
    return root / "deploy" / "monitoring"


@pytest.fixture
def load_script(monitoring: Path, load_source: Callable[[Path], ModuleType]):
    """Import one of the folder's scripts."""
    return lambda name: load_source(monitoring / name)


@pytest.fixture(scope="session")
def promtool() -> str:
    """Prometheus's checker."""
    return _found("promtool")


class Stack(NamedTuple):
    """A server and the Prometheus that watches it."""

    server: TritonServer
    prometheus: str  # its URL

    def query(self, expression: str) -> dict[str, float]:
        """The value of each series by its labels as JSON; NaN left out."""
        answer = self._get("query?" + urllib.parse.urlencode({"query": expression}))
        values = {
            json.dumps(each["metric"], sort_keys=True): float(each["value"][1])
            for each in answer["result"]
        }
        return {labels: value for labels, value in values.items() if value == value}

    def firing(self) -> set[str]:
        """The names of the alerts that fire."""
        alerts = self._get("alerts")["alerts"]
        return {each["labels"]["alertname"] for each in alerts if each["state"] == "firing"}

    def _get(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self.prometheus}/api/v1/{path}", timeout=20) as reply:
            return json.load(reply)["data"]


@pytest.fixture(scope="session")
def stack(
    root: Path, monitoring: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """Both, running; the rules are FASTER."""
    binary = _found("prometheus")
    folder = tmp_path_factory.mktemp("prometheus")
    # A server of its own: Prometheus would take what other tests do to the shared one for traffic.
    with running_stub(root / "model_repository") as stub:
        server = stub.set_cost(COST)
        _lay_out(monitoring, folder, server.metrics_port)
        [port] = free_ports(1)
        command = [
            binary,
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--log.level=error",
        ]
        with subprocess.Popen(command) as process:
            try:
                url = f"http://127.0.0.1:{port}"
                wait_for(lambda: _is_ready(url), "Prometheus is ready")
                yield Stack(server, url)
            finally:
                process.terminate()


def wait_for(condition: Callable[[], object], what: str) -> None:
    """Return once the condition holds."""
    assert poll(condition, patience_s=240, pause_s=0.2), f"still waiting until {what}"


def _lay_out(monitoring: Path, folder: Path, metrics_port: int) -> None:
    for name in ("prometheus.yml", "rules.yml"):
        (folder / name).write_text(scale_times((monitoring / name).read_text(), FASTER))
    (folder / "targets").mkdir()
    targets = [{"targets": [f"127.0.0.1:{metrics_port}"]}]
    (folder / "targets" / "pem.yml").write_text(json.dumps(targets))  # JSON is YAML


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/-/ready", timeout=5) as reply:
            return reply.status == 200
    except urllib.error.URLError:
        return False


def _found(program: str) -> str:
    if not (path := shutil.which(program)):
        pytest.skip(f"needs {program}: apt-get install prometheus (Debian, Ubuntu)")
    return path
