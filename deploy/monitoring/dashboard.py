"""Make the Grafana dashboard from the names of rules.yml and of the steps' own metrics.

python deploy/monitoring/dashboard.py writes grafana/dashboard.json, which is committed.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

FILE = Path(__file__).with_name("grafana") / "dashboard.json"
DATASOURCE = {"type": "prometheus", "uid": "pem-prometheus"}  # as provisioned
COLUMNS = 24  # of Grafana's grid


class Panel(NamedTuple):
    """One panel: curves by legend, in a unit of Grafana's."""

    title: str
    unit: str
    curves: dict[str, str]  # legend -> expression; {{label}} in a legend is its value
    meaning: str
    kind: str = "timeseries"
    width: int = 8
    height: int = 7


def quantiles(metric: str, *shares: float) -> dict[str, str]:
    """Curves of a histogram's quantiles."""
    return {
        f"{share:.0%}": f"histogram_quantile({share}, sum by (le) (rate({metric}_bucket[5m])))"
        for share in shares
    }


ROWS = {
    "Is it well": (
        Panel("Servers", "short", {"up": "pem:servers_up", "known": "pem:servers"},
              "Servers that answer the scrape, and all that Prometheus knows.", "stat", 4, 4),
        Panel("Arriving", "reqps", {"": "pem:offered_rps"},
              "Requests a second, refused ones included.", "stat", 4, 4),
        Panel("Lost", "percentunit", {"": "pem:loss_ratio"},
              "Share of the good images without an answer. Pages above 0.1%.", "stat", 4, 4),
        Panel("Broken", "percentunit", {"": "pem:faulty_ratio"},
              "Share of the requests that cannot be used: the clients' doing.", "stat", 4, 4),
        Panel("Mean latency", "s", {"": "pem:latency_seconds"},
              "From arrival at the gateway to its answer.", "stat", 4, 4),
        Panel("Alerts", "short", {"": 'sum(ALERTS{alertstate="firing"}) or vector(0)'},
              "Firing now; their runbooks are in rules.yml.", "stat", 4, 4),
    ),
    "Load": (
        Panel("Requests a second", "reqps",
              {"arriving": "pem:offered_rps", "answered": "pem:answered_rps",
               "lost": "pem:lost_rps", "broken": "pem:faulty_rps"},
              "Arriving is the sum of the other three, but for what is in flight."),
        Panel("Demand", "reqps",
              {"demand": "pem:demand_rps", "a server": "pem:demand_rps / pem:servers_up"},
              "What the autoscaler sees: arriving, plus the backlog cleared in 30 s."),
        Panel("Images by outcome", "reqps",
              {"answered": "pem:answered_rps",
               "{{reason}}": "sum by (reason) (rate(pem_gateway_images_refused_total[1m]))",
               "abandoned": "sum(rate(pem_gateway_images_abandoned_total[1m]))"},
              "bad_image, too_large and bad_request are the client's; abandoned: it did not wait."),
    ),
    "Waiting and working": (
        Panel("Backlog", "short",
              {"": "pem:backlog"},
              "Images that were accepted and are not yet answered."),
        Panel("Waiting before each step", "s", {"{{model}}": "pem:queue_seconds"},
              "Mean of a request. The step that is behind stands out."),
        Panel("Working in each step", "s", {"{{model}}": "pem:compute_seconds"},
              "Mean of a request; a batch's time counts for each of its images."),
        Panel("Waiting for each second of work", "short", {"": "pem:wait_ratio"},
              "About 1 up to two thirds of capacity. Pages above 2.5."),
        Panel("Images a run of the network", "short", {"": "pem:batch_efficiency"},
              "1 to 8. Near 1 while the network is busy: batching is lost."),
        Panel("Network busy", "percentunit", {"": "pem:network_busy"},
              "Share of time that it runs, a server."),
    ),
    "Images": (
        Panel("Decoding", "s", quantiles("pem_decode_seconds", 0.5, 0.95),
              "Decoding and fitting one image.", width=6),
        Panel("Pixels of the images", "short", quantiles("pem_image_pixels", 0.5, 0.95),
              "As they were sent.", width=6),
        Panel("Detections of an image", "short", quantiles("pem_detections_per_image", 0.5, 0.95),
              "A sudden change means other images, or another network.", width=6),
        Panel("Postprocessing", "s", quantiles("pem_postprocess_seconds", 0.5, 0.95),
              "Making the detections of one image.", width=6),
    ),
}  # fmt: skip


def panels() -> list[Panel]:
    """Every panel, in the order of the page."""
    return [panel for row in ROWS.values() for panel in row]


def dashboard() -> dict[str, Any]:
    """The dashboard as Grafana imports it."""
    laid_out: list[dict[str, Any]] = []
    top = 0
    for title, row in ROWS.items():
        laid_out.append(_at({"type": "row", "title": title}, 0, top, COLUMNS, 1))
        top += 1
        left = 0
        for panel in row:
            if left + panel.width > COLUMNS:
                left, top = 0, top + panel.height
            laid_out.append(_at(_drawn(panel), left, top, panel.width, panel.height))
            left += panel.width
        top += row[-1].height
    for number, panel_json in enumerate(laid_out, start=1):
        panel_json["id"] = number
    return {
        "uid": "pem",
        "title": "PEM segmentation",
        "tags": ["pem"],
        "schemaVersion": 39,
        "editable": False,
        "refresh": "5s",
        "time": {"from": "now-30m", "to": "now"},
        "panels": laid_out,
    }


def to_text(content: dict[str, Any]) -> str:
    """The file's text."""
    return json.dumps(content, indent=1) + "\n"


def _drawn(panel: Panel) -> dict[str, Any]:
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.meaning,
        "datasource": DATASOURCE,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + number), "expr": expression, "legendFormat": legend}
            for number, (legend, expression) in enumerate(panel.curves.items())
        ],
    }


def _at(panel: dict[str, Any], x: int, y: int, width: int, height: int) -> dict[str, Any]:
    return panel | {"gridPos": {"x": x, "y": y, "w": width, "h": height}}


if __name__ == "__main__":
    FILE.write_text(to_text(dashboard()), encoding="utf-8")
    print(FILE)
