"""The dashboard: as generated, of known names, and alive."""

import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from PIL import Image
from polling import poll

from pem_client import Client, InvalidRequest

from .conftest import MONITORING, Stack

RULES = (MONITORING / "rules.yml").read_text()


@pytest.fixture
def dashboard(load_source: Callable[[Path], ModuleType]) -> ModuleType:
    """The script that makes it."""
    return load_source(MONITORING / "dashboard.py")


def test_the_committed_dashboard_is_the_generated_one(dashboard: ModuleType) -> None:
    committed = (MONITORING / "grafana" / "dashboard.json").read_text()
    generated = dashboard.to_text(dashboard.dashboard())
    assert committed == generated, "run deploy/monitoring/dashboard.py"


def test_every_panel_explains_itself(dashboard: ModuleType) -> None:
    panels = dashboard.dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert all(panel["description"] for panel in panels if panel["type"] != "row")


def test_panels_use_rules_that_exist(dashboard: ModuleType) -> None:
    recorded = set(re.findall(r"record: (\S+)", RULES))
    curves = [curve for panel in dashboard.panels() for curve in panel.curves.values()]
    used = {name for curve in curves for name in re.findall(r"pem:[\w:]+", curve)}
    assert used
    assert used <= recorded


def test_what_runbooks_call_a_panel_is_one(dashboard: ModuleType) -> None:
    alerts = yaml.safe_load(RULES)["groups"][1]["rules"]
    runbooks = "\n".join(alert["annotations"]["runbook"] for alert in alerts)
    quoted = set(re.findall(r'"([A-Z][^"]+)"', runbooks)) - {"Stub process"}
    assert quoted
    assert quoted <= {panel.title for panel in dashboard.panels()}


def test_grafana_finds_the_datasource_that_the_panels_name(dashboard: ModuleType) -> None:
    file = MONITORING / "grafana" / "provisioning" / "datasources" / "prometheus.yml"
    [source] = yaml.safe_load(file.read_text())["datasources"]
    assert source["uid"] == dashboard.DATASOURCE["uid"]


def test_every_panel_shows_something_of_a_real_server(stack: Stack, dashboard: ModuleType) -> None:
    curves = {
        f"{panel.title}: {curve}": curve
        for panel in dashboard.panels()
        for curve in panel.curves.values()
    }
    image = Image.new("RGB", (64, 48), (200, 30, 30))

    def all_show() -> bool:
        with Client(stack.server.grpc_url) as client:
            client.infer(image)
            client.segment(image)
            with pytest.raises(InvalidRequest):
                client.infer(b"no image")
        for title in [title for title, curve in curves.items() if stack.query(curve)]:
            del curves[title]
        return not curves

    poll(all_show, pause_s=0.5)
    assert not curves, "without data"
