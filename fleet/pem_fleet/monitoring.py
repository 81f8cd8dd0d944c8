"""The Prometheus of deploy/, with its rules, scraping servers on this machine."""

from __future__ import annotations

import contextlib
import json
import re
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

from pem_fleet.processes import running, wait_until
from pem_server.ports import LOOPBACK

SHORTEST_SCRAPE_S = 1.0
SCRAPES_A_WINDOW = 5  # fewer, and one late scrape empties a rate
UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}
WINDOW = re.compile(r"\[(\d+)([smh])\]")
INTERVAL = re.compile(r"(?m)^(\s*\w*(?:interval|timeout): *)(\d+)([smh])\b")


def quickened_interval(seconds: float, factor: float) -> float:
    """Return a time between scrapes or evaluations, divided but not below a second."""
    return max(seconds / factor, min(seconds, SHORTEST_SCRAPE_S))


def quickened_window(seconds: float, factor: float) -> float:
    """Return the window of a rate, divided but with some scrapes in it."""
    return max(seconds / factor, min(seconds, SHORTEST_SCRAPE_S * SCRAPES_A_WINDOW))


def quicken(text: str, factor: float) -> str:
    """Divide the windows and intervals in a configuration or a rule file of Prometheus."""

    def window(found: re.Match[str]) -> str:
        seconds = quickened_window(float(found[1]) * UNITS[found[2]], factor)
        return f"[{_milliseconds(seconds)}]"

    def interval(found: re.Match[str]) -> str:
        seconds = quickened_interval(float(found[2]) * UNITS[found[3]], factor)
        return f"{found[1]}{_milliseconds(seconds)}"

    return INTERVAL.sub(interval, WINDOW.sub(window, text))


class Prometheus:
    """A Prometheus that runs."""

    def __init__(self, port: int, targets: Path) -> None:
        self._url = f"http://{LOOPBACK}:{port}"
        self._targets = targets

    def scrape(self, metrics_ports: Sequence[int]) -> None:
        """From now on, ask the servers at these ports."""
        addresses = [f"{LOOPBACK}:{port}" for port in metrics_ports]
        unfinished = self._targets.with_suffix(".unfinished")
        unfinished.write_text(json.dumps([{"targets": addresses}]))  # JSON is YAML
        unfinished.replace(self._targets)

    def value(self, query: str) -> float | None:
        """Return the one number that a query gives; None when there is none, or no answer."""
        found = self.values(query)
        return next(iter(found.values())) if len(found) == 1 else None

    def values(self, query: str) -> dict[str, float]:
        """Return the numbers of a query by the label `model` (empty where there is none)."""
        address = f"{self._url}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
        try:
            with urllib.request.urlopen(address, timeout=5.0) as answer:
                result = json.load(answer)["data"]["result"]
        except OSError:
            return {}
        numbers = {one["metric"].get("model", ""): float(one["value"][1]) for one in result}
        return {model: number for model, number in numbers.items() if number == number}

    def is_ready(self) -> bool:
        """Whether it answers queries."""
        try:
            with urllib.request.urlopen(f"{self._url}/-/ready", timeout=2.0) as answer:
                return int(answer.status) == 200
        except OSError:
            return False


@contextlib.contextmanager
def prometheus(
    source: Path, port: int, factor: float, folder: Path, log: Path
) -> Iterator[Prometheus]:
    """Run Prometheus with prometheus.yml and rules.yml of `source`, its times divided."""
    (folder / "targets").mkdir()
    for name in ("prometheus.yml", "rules.yml"):
        (folder / name).write_text(quicken((source / name).read_text(), factor))
    command = [
        "prometheus",
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'prometheus'}",
        f"--web.listen-address={LOOPBACK}:{port}",
    ]
    with running(command, log) as program:
        made = Prometheus(port, folder / "targets" / "pem.yml")
        wait_until(made.is_ready, program, log, "Prometheus")
        yield made


def _milliseconds(seconds: float) -> str:
    return f"{round(seconds * 1000)}ms"
