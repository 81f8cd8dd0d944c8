"""The Prometheus of deploy/, with its rules, scraping servers on this machine."""

import contextlib
import json
import math
import re
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

from pem_fleet.rehearsal.programs import running, wait_until
from pem_server.ports import LOOPBACK, is_taken

DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # it is on this machine
SHORTEST_SCRAPE_S = 1.0
SCRAPES_A_WINDOW = 5  # fewer, and one late scrape empties a rate
UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}
WINDOW = re.compile(r"\[(\d+)([smh])\]")
INTERVAL = re.compile(r"(?m)^(\s*\w*(?:interval|timeout|for): *)(\d+)([smh])\b")


def scale_times(text: str, time_scale: float) -> str:
    """Divide every window, interval and `for` of a configuration or a rule file of Prometheus.

    None falls below the shortest scrape, nor a window below some of these.
    """

    def scaled(number: str, unit: str, least_s: float) -> str:
        seconds = float(number) * UNITS[unit]
        return f"{round(1000 * max(seconds / time_scale, min(seconds, least_s)))}ms"

    def window(found: re.Match[str]) -> str:
        return f"[{scaled(found[1], found[2], SHORTEST_SCRAPE_S * SCRAPES_A_WINDOW)}]"

    def interval(found: re.Match[str]) -> str:
        return found[1] + scaled(found[2], found[3], SHORTEST_SCRAPE_S)

    return INTERVAL.sub(interval, WINDOW.sub(window, text))


class Prometheus:
    """A Prometheus that runs."""

    def __init__(self, port: int, targets: Path) -> None:
        self._url = f"http://{LOOPBACK}:{port}"
        self._targets = targets

    def scrape(self, metrics_ports: Sequence[int]) -> None:
        """From now on, scrape the servers at these ports."""
        addresses = [f"{LOOPBACK}:{port}" for port in metrics_ports]
        unfinished = self._targets.with_suffix(".unfinished")
        unfinished.write_text(json.dumps([{"targets": addresses}]))  # JSON is YAML
        unfinished.replace(self._targets)

    def value(self, query: str) -> float | None:
        """The one number that a query gives; None when there is none, or no answer."""
        address = f"{self._url}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
        try:
            with DIRECT.open(address, timeout=5.0) as answer:
                result = json.load(answer)["data"]["result"]
        except OSError:
            return None
        number = float(result[0]["value"][1]) if len(result) == 1 else math.nan
        return None if math.isnan(number) else number


@contextlib.contextmanager
def prometheus(
    source: Path, port: int, time_scale: float, folder: Path, log: Path
) -> Iterator[Prometheus]:
    """Run Prometheus with prometheus.yml and rules.yml of `source`, its times divided."""
    (folder / "targets").mkdir()
    for name in ("prometheus.yml", "rules.yml"):
        (folder / name).write_text(scale_times((source / name).read_text(), time_scale))
    command = [
        "prometheus",
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'prometheus'}",
        f"--web.listen-address={LOOPBACK}:{port}",
    ]
    with running(command, log) as program:
        wait_until(lambda: is_taken(port), program, log, "Prometheus")
        yield Prometheus(port, folder / "targets" / "pem.yml")
