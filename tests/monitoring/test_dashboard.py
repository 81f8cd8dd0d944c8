"""The dashboard: as generated, of known names, and alive."""

import re
from pathlib import Path

import pytest
import yaml
from PIL import Image
from polling import poll

from pem_client import Client, InvalidRequest

from .conftest import Stack


def test_the_committed_dashboard_is_the_generated_one(monitoring: Path, load_script) -> None:
    script = load_script("dashboard.py")
    committed = (monitoring / "grafana" / "dashboard.json").read_text()
    assert committed == script.to_text(script.dashboard()), "run deploy/monitoring/dashboard.py"


def test_every_panel_explains_itself(load_script) -> None:
    panels = load_script("dashboard.py").dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert all(panel["description"] for panel in panels if panel["type"] != "row")


def test_panels_use_rules_that_exist(monitoring: Path, load_script) -> None:
    rules = (monitoring / "rules.yml").read_text()
    recorded = set(re.findall(r"record: (\S+)", rules))
    curves = [
        curve for panel in load_script("dashboard.py").panels() for curve in panel.curves.values()
    ]
    used = {name for curve in curves for name in re.findall(r"pem:[\w:]+", curve)}
    assert used
    assert used <= recorded


def test_what_runbooks_call_a_panel_is_one(monitoring: Path, load_script) -> None:
    rules = (monitoring / "rules.yml").read_text()
    alerts = yaml.safe_load(rules)["groups"][1]["rules"]
    quoted = {
        title
        for alert in alerts
        for title in re.findall(r'"([A-Z][^"]+)"', alert["annotations"]["runbook"])
    } - {"Stub process"}
    assert quoted
    assert quoted <= {panel.title for panel in load_script("dashboard.py").panels()}


def test_grafana_finds_the_datasource_that_the_panels_name(monitoring: Path, load_script) -> None:
    provisioning = monitoring / "grafana" / "provisioning"
    [source] = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())[
        "datasources"
    ]
    assert source["uid"] == load_script("dashboard.py").DATASOURCE["uid"]


def test_every_panel_shows_something_of_a_real_server(stack: Stack, load_script) -> None:
    curves = {
        f"{panel.title}: {curve}": curve
        for panel in load_script("dashboard.py").panels()
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
