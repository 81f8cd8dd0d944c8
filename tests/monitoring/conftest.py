"""A gateway before a stub network, scraped by a real Prometheus with the real rules."""

import json
import shutil
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from gateway_process import RunningGateway, running_gateway
from polling import poll

from pem_fleet.rehearsal.programs import running
from pem_fleet.rehearsal.prometheus import scale_times
from pem_server.checkout import ROOT
from pem_server.ports import free_ports
from pem_server.stub_network import Cost

FASTER = 10  # every duration of the rules and of scraping is divided by this
MONITORING = ROOT / "deploy" / "monitoring"
COST = Cost(fixed_ms=400, per_image_ms=50)  # 2 images a second alone, 10 in full batches


class Stack(NamedTuple):
    """A server and the Prometheus that watches it."""

    server: RunningGateway
    prometheus: str  # its URL

    def query(self, expression: str) -> dict[str, float]:
        """The value of each series by its labels as JSON; NaN left out."""
        answer = self._get("query?" + urllib.parse.urlencode({"query": expression}))
        found = [(json.dumps(each["metric"]), float(each["value"][1])) for each in answer["result"]]
        return {labels: value for labels, value in found if value == value}

    def firing(self) -> set[str]:
        """The names of the alerts that fire."""
        alerts = self._get("alerts")["alerts"]
        return {each["labels"]["alertname"] for each in alerts if each["state"] == "firing"}

    def _get(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self.prometheus}/api/v1/{path}", timeout=20) as reply:
            return json.load(reply)["data"]


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Both, running; the rules are FASTER."""
    folder = tmp_path_factory.mktemp("prometheus")
    [port] = free_ports(1)
    command = [
        found("prometheus"),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    # A server of its own: Prometheus would take what other tests do to the shared one for traffic.
    with running_gateway(cost=COST) as server:
        for name in ("prometheus.yml", "rules.yml"):
            (folder / name).write_text(scale_times((MONITORING / name).read_text(), FASTER))
        (folder / "targets").mkdir()
        targets = [{"targets": [f"127.0.0.1:{server.metrics_port}"]}]
        (folder / "targets" / "pem.yml").write_text(json.dumps(targets))  # JSON is YAML
        with running(command, folder / "log"):
            ready = "Server is ready to receive web requests"
            wait_for(lambda: ready in (folder / "log").read_text(), "Prometheus is ready")
            yield Stack(server, f"http://127.0.0.1:{port}")


def wait_for(condition: Callable[[], object], what: str) -> None:
    """Return once the condition holds."""
    assert poll(condition, patience_s=240, pause_s=0.2), f"still waiting until {what}"


def found(program: str) -> str:
    """The path of a program of Prometheus."""
    if not (path := shutil.which(program)):
        pytest.skip(f"needs {program}: apt-get install prometheus (Debian, Ubuntu)")
    return path
