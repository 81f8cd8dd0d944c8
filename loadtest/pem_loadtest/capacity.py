"""The capacity file: what one server can take, as KEY=VALUE lines that kustomize reads too.

The autoscaler's threshold comes from this file, which therefore states its source.
"""

from dataclasses import dataclass, fields
from pathlib import Path

THRESHOLD_SHARE = 0.65  # of the capacity: the rest is for the time until a new server is ready
THRESHOLD = "threshold_images_per_second"

_HEAD = """\
# What one server can take; written by `./run loadtest --shape ladder --capacity-file FILE`.
# capacity: the highest rate at which the percentile of latency still met the goal, open loop.
# threshold: 0.65 of it; the autoscaler aims for this many images a second and server.
"""


@dataclass(frozen=True)
class Capacity:
    """A measured capacity. `machine`, `model` and `source` are for people."""

    capacity_images_per_second: float
    latency_goal_ms: float
    percentile: float
    protocol: str
    shape: str
    seed: int
    machine: str
    triton_version: str
    model: str
    measured_at: str
    source: str = "measured"

    @property
    def threshold_images_per_second(self) -> float:
        """What the autoscaler aims for."""
        return round(THRESHOLD_SHARE * self.capacity_images_per_second, 1)


def write_capacity(file: Path, capacity: Capacity) -> None:
    """Replace `file`, as a whole or not at all."""
    values = {field.name: getattr(capacity, field.name) for field in fields(capacity)}
    first = "capacity_images_per_second"
    values = {first: values.pop(first), THRESHOLD: capacity.threshold_images_per_second, **values}
    lines = [f"{key}={_one_line(value)}\n" for key, value in values.items()]
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(f"{file.name}.unfinished")
    unfinished.write_text(_HEAD + "".join(lines))
    unfinished.replace(file)


def read_capacity(file: Path) -> Capacity:
    """The capacity in `file`; ValueError where a line is missing, unreadable or contradicts."""
    lines = [line for line in file.read_text().splitlines() if line and not line.startswith("#")]
    values = {key.strip(): value.strip() for key, _, value in (x.partition("=") for x in lines)}
    known = {field.name: field.type for field in fields(Capacity)}
    if wrong := sorted((known.keys() | {THRESHOLD}) ^ values.keys()):
        raise ValueError(f"{file}: missing or unknown: {', '.join(wrong)}")
    try:
        threshold = float(values.pop(THRESHOLD))
        capacity = Capacity(**{key: known[key](text) for key, text in values.items()})  # type: ignore[operator]
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
    found = capacity.capacity_images_per_second
    if threshold != capacity.threshold_images_per_second or not found > 0:
        raise ValueError(
            f"{file}: the threshold must be {THRESHOLD_SHARE} of a capacity above 0, got "
            f"{threshold:g} and {found:g}: measure again"
        )
    return capacity


def _one_line(value: object) -> str:
    return " ".join(str(value).split())
