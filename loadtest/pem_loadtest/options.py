"""The options of the load test beyond locust's own, and their checks."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from . import arrivals, shapes
from .verdict import Limits

CHECKOUT = Path(__file__).resolve().parents[2]  # loadtest/ is installed from there, editable
STREET = CHECKOUT / "docs" / "street.jpg"
OUTPUT = CHECKOUT / "artifacts" / "loadtest"
METRICS = "http://127.0.0.1:8002/metrics"
HOST = "grpc://127.0.0.1:8001"
USERS = 64
OLD_IMAGES = "--pictures"  # the name of --images in 0.1; 0.3 drops it
SHAPES = ("constant", "ladder", "spike", "soak", "day", "replay")

# name, type, default, help. Names must not be locust's own; values travel to its workers, so they
# are plain.
_OPTIONS: tuple[tuple[str, Any, Any, str], ...] = (
    ("rate", float, 10.0, "images a second; where a ladder begins, a day's peak"),
    ("seconds", float, 30.0, "how long each step lasts"),
    ("warm-up", float, 5.0, "seconds before each measurement that do not count"),
    ("closed", int, 0, "closed loop: so many users, each of which sends once it has its answer"),
    ("spike-factor", float, 1.8, "how many times the rate the spike has"),
    ("parts", int, 10, "steps of a soak"),
    ("timestamps", str, None, "for --shape replay: a file with one number of seconds per line"),
    ("speed", float, 1.0, "how many times faster to replay it"),
    ("tolerance", float, 0.05, "ladder: how close, as a share, the knee is searched"),
    ("highest-rate", float, 10_000.0, "ladder: where it gives up"),
    ("images", str, None, "a folder of images to send; default: made from docs/street.jpg"),
    ("broken", float, 0.02, "share of broken images, which the server must refuse"),
    ("time-limit", float, 30.0, "seconds that a client waits for its answer"),
    ("latency-goal", float, 1000.0, "milliseconds, of the percentile"),
    ("percentile", float, 99.0, "the percentile of latency that must meet the goal"),
    ("max-failures", float, 0.001, "share of images that may fail"),
    ("min-answered", float, 0.0, "images a second that must be answered"),
    ("lateness-limit", float, 20.0, "milliseconds; above it, at p99, the run is invalid"),
    ("seed", int, 1, "of arrivals and images"),
    ("output", str, str(OUTPUT), "folder of the report"),
    ("capacity-file", str, None, "where a ladder writes the capacity it found"),
    ("machine", str, None, "the server's machine, for the report; default: this one, if local"),
)


class Settings(NamedTuple):
    """All options of one run, checked. Shares are 0 to 1; times in seconds unless named."""

    shape: str
    metrics: tuple[str, ...]
    rate: float
    seconds: float
    warm_up: float
    closed: int
    spike_factor: float
    parts: int
    timestamps: Path | None
    speed: float
    tolerance: float
    highest_rate: float
    images: Path | None
    broken: float
    time_limit: float
    latency_goal: float
    percentile: float
    max_failures: float
    min_answered: float
    lateness_limit: float
    seed: int
    output: Path
    capacity_file: Path | None
    machine: str | None

    @property
    def limits(self) -> Limits:
        """What decides the exit code."""
        goals = (self.latency_goal, self.percentile, self.max_failures, self.min_answered)
        return Limits(*goals, self.lateness_limit)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Ours, to locust's parser or to any other."""
    group = parser.add_argument_group("Load test", "exit code: 0 pass, 1 missed goal, 3 invalid")
    group.add_argument("--shape", choices=SHAPES, default="constant", help="default %(default)s")
    group.add_argument(
        "--metrics",
        action="append",
        metavar="URL",
        help=f"a server's metrics, once for each server; default {METRICS}; none: ignore metrics",
    )
    for name, kind, default, text in _OPTIONS:
        shown = "" if default is None else f"; default {default}".replace(f"{CHECKOUT}/", "")
        group.add_argument(f"--{name}", type=kind, default=default, help=text + shown)
    group.add_argument(OLD_IMAGES, dest="images", default=None, help=argparse.SUPPRESS)


def read_settings(options: argparse.Namespace) -> Settings:
    """The settings in parsed options; ValueError with a sentence for what cannot be."""
    values = {name: getattr(options, name) for name in Settings._fields if name != "metrics"}
    urls = tuple(options.metrics or [METRICS])
    for name in ("timestamps", "images", "output", "capacity_file"):
        values[name] = Path(values[name]) if values[name] else None
    settings = Settings(**values, metrics=() if urls == ("none",) else urls)
    _check(settings)
    if settings.closed and settings.shape != "constant":
        raise ValueError(f"--closed needs --shape constant, got {settings.shape}")
    if (settings.shape == "replay") != bool(settings.timestamps):
        raise ValueError("--shape replay and --timestamps FILE go together")
    return settings


def plan(settings: Settings) -> list[shapes.Step]:
    """The steps of a shape that needs no search and has no recording."""
    rate, seconds = settings.rate, settings.seconds
    if settings.shape == "soak":
        return shapes.soak(rate, seconds, settings.parts)
    if settings.shape == "spike":
        return shapes.spike(rate, seconds, settings.spike_factor)
    if settings.shape == "day":
        return shapes.day(rate, seconds)
    if settings.closed:
        return [shapes.Step(f"{settings.closed} users", 0.0, seconds)]
    return shapes.constant(rate, seconds)


def recording(settings: Settings) -> tuple[list[shapes.Step], arrivals.Offsets]:
    """The steps, each of `seconds`, and the arrivals of a recording; the last lasts its rest."""
    assert settings.timestamps
    offsets = arrivals.read_timestamps(settings.timestamps, settings.speed)
    length = max(float(offsets[-1]), 1.0)
    steps, begin = [], 0.0
    while begin < length:
        seconds = min(settings.seconds, length - begin)
        within = ((offsets >= begin) & (offsets < begin + seconds)).sum()
        steps.append(shapes.Step(f"{begin:g} s", float(within) / seconds, seconds))
        begin += seconds
    return steps, offsets


def _check(settings: Settings) -> None:
    positive = "rate seconds speed tolerance time_limit latency_goal spike_factor"
    ranges: tuple[tuple[str, str, Callable[[float], bool]], ...] = (
        (positive, "above 0", lambda value: value > 0),
        ("broken max_failures", "0 or a share below 1", lambda value: 0 <= value < 1),
        ("percentile", "above 0 and at most 100", lambda value: 0 < value <= 100),
        ("parts", "1 or more", lambda value: value >= 1),
        ("warm_up closed", "0 or more", lambda value: value >= 0),
        ("highest_rate", "at least the rate", lambda value: value >= settings.rate),
    )
    for names, requirement, is_met in ranges:
        for name in names.split():
            if not is_met(value := getattr(settings, name)):
                option = f"--{name.replace('_', '-')}"
                raise ValueError(f"{option} must be {requirement}, got {value}")
