"""The steps' measurements as tables for people and as JSON for machines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from .forms import Absent
from .machine import machine_line
from .served import Load, Served

if TYPE_CHECKING:
    from .steps import Measured

CPU_GOAL_MS = 14.0  # four cores at 284 images a second, the aim on a T4
RATE_GOAL = 140.0  # images a second on two cores

Versions = Mapping[str, str | None]


def choices_text(
    machine: dict[str, object],
    versions: Versions,
    choices: Sequence[Measured],
    absent: Sequence[Absent],
) -> str:
    """A table for each image; the served choice is marked."""
    here = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    lines = [machine_line(machine), here]
    for image in dict.fromkeys(choice.image for choice in choices):
        lines += ["", f"{image:62} CPU ms     bytes  result"]
        of_image = [choice for choice in choices if choice.image == image]
        for stage in dict.fromkeys(choice.stage for choice in of_image):
            lines += [_choice_line(choice) for choice in of_image if choice.stage == stage]
    lines += [f"Not run: {package.name} {package.reason}." for package in absent]
    return "\n".join([*lines, "* is served."])


def _choice_line(choice: Measured) -> str:
    mark = "*" if choice.served else " "
    size = f"{choice.bytes:9,}" if choice.bytes else " " * 9
    result = "" if choice.served else choice.difference
    line = f"{choice.stage:28} {mark} {choice.choice:30} {choice.cpu.median * 1e3:7.3f} {size}  "
    return f"{line}{result}".rstrip()


def served_text(machine: dict[str, object], load: Load, served: Sequence[Served]) -> str:
    """CPU time of an image by process, a column for each form, and whether the goals are met."""
    names = dict.fromkeys(name for form in served for name in form.cpu_ms)
    lines = [
        "",
        f"Served without the network: {load.image.name}, {load.in_flight} in flight, "
        f"{len(served[0].found)} detections, {machine['cores']} cores, the client's load included",
        "CPU ms an image         " + "".join(f"{_short(form.form):>24}" for form in served),
    ]
    for name in sorted(names):
        lines.append(_row(name, [form.cpu_ms.get(name, 0.0) for form in served]))
    lines += [
        _row("server and steps", [form.server_ms for form in served]),
        _row("the client beside it", [form.client_ms for form in served]),
        _row("images a second", [form.images_per_second for form in served]),
        _row("p50 ms", [form.p50_ms for form in served]),
        _row("p99 ms", [form.p99_ms for form in served]),
    ]
    if len(served) > 1:
        alike = all(form.found == served[0].found for form in served)
        lines.append(f"All forms answer {'alike, to the last pixel' if alike else 'DIFFERENTLY'}.")
    return "\n".join([*lines, verdict(served[-1])])


def verdict(served: Served) -> str:
    """Whether both goals are met, in one sentence."""
    cheap, fast = served.server_ms <= CPU_GOAL_MS, served.images_per_second >= RATE_GOAL
    return (
        f"At most {CPU_GOAL_MS:g} ms of CPU an image: {'met' if cheap else 'MISSED'}. "
        f"At least {RATE_GOAL:g} images a second: {'met' if fast else 'MISSED'}."
    )


def _row(name: str, values: Sequence[float]) -> str:
    return f"{name:24}" + "".join(f"{value:24.2f}" for value in values)


def _short(name: str) -> str:
    return name if len(name) <= 22 else f"...{name[-19:]}"


def as_json(
    machine: dict[str, object],
    versions: Versions,
    choices: Sequence[Measured],
    served: Sequence[Served],
) -> dict[str, object]:
    """Everything measured; times of choices in seconds, of images in milliseconds."""
    return {
        "machine": machine,
        "packages": dict(versions),
        "choices": [asdict(choice) for choice in choices],
        "served": [
            {name: value for name, value in asdict(form).items() if name != "found"}
            | {"server_ms": form.server_ms, "detections": len(form.found)}
            for form in served
        ],
        "goals": {"cpu_ms": CPU_GOAL_MS, "images_per_second": RATE_GOAL},
    }
