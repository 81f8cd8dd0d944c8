"""The load of the fleet test: locust replays Poisson arrivals that rise and fall."""

import csv
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from PIL import Image

from pem_loadtest.arrivals import poisson_steps

SIZES = ((320, 240), (240, 320), (480, 360))  # small: two cores decode them beside all else
STEP_S = 5  # of locust's own report
# A machine that runs four servers, Prometheus, HAProxy and locust on two cores sends late; latency
# counts from the intended time, so that lateness is in it and hides nothing.
LATENESS_MS = 2000
LEAD_S = 0.6  # from what locust reports as its beginning to the first image
CUT_OFF_S = 0.5  # on average, as it reports whole seconds
ANSWERED, REFUSED = "answered", "overloaded"


@dataclass(frozen=True)
class Request:
    """One image: when it was due, in seconds from the first, and how it ended."""

    due_s: float
    outcome: str
    latency_s: float


def write_arrivals(path: Path, steps: Sequence[tuple[float, float]], seed: int) -> int:
    """Write when images are due under (seconds, rate) steps; how many there are."""
    times = poisson_steps([(rate, seconds) for seconds, rate in steps], seed)
    path.write_text("".join(f"{at - times[0]:.4f}\n" for at in times))
    return len(times)


def write_images(folder: Path, street: Path) -> None:
    """Make small images of the street."""
    folder.mkdir()
    with Image.open(street) as opened:
        for width, height in SIZES:
            opened.convert("RGB").resize((width, height)).save(folder / f"{width}x{height}.jpg")


def command(host: str, arrivals: Path, images: Path, output: Path, seed: int) -> list[str]:
    """The load test's command. Its verdict is not used: the fleet test has its own."""
    return [
        *(sys.executable, "-m", "pem_loadtest", "--host", host, "--shape", "replay"),
        *("--timestamps", str(arrivals), "--images", str(images), "--output", str(output)),
        *("--seconds", str(STEP_S), "--metrics", "none", "--broken", "0", "--seed", str(seed)),
        *("--lateness-limit", str(LATENESS_MS), "--latency-goal", "60000", "--time-limit", "60"),
    ]


def began_at(report: Path) -> float:
    """Return when the first image was due, seconds since 1970, within about half a second."""
    reported = datetime.fromisoformat(json.loads(report.read_text())["began_at"])
    return reported.timestamp() + CUT_OFF_S + LEAD_S


def read_requests(path: Path) -> list[Request]:
    """Read what locust wrote of every single image."""
    with path.open(newline="") as stream:
        return [
            Request(float(row["due_s"]), row["outcome"], float(row["latency_ms"]) / 1e3)
            for row in csv.DictReader(stream)
        ]
