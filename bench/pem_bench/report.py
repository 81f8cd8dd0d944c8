"""The measurements and the bound as tables for people and as JSON for machines."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from . import card
from .forms import Absent, Agreement
from .machine import machine_line
from .roofline import T4, Cost, images_per_second, parts
from .timing import Spread

DEAREST = 12  # kernels that the roofline lists


@dataclass(frozen=True)
class Result:
    """One form at one batch size."""

    form: str
    batch: int
    seconds: Spread  # of one call, which answers the whole batch

    @property
    def images_per_second(self) -> float:
        return self.batch / self.seconds.median


def speed_text(
    machine: dict[str, object],
    results: Sequence[Result],
    absent: Sequence[Absent],
    agreements: Mapping[str, Agreement],
    bound: str,
) -> str:
    """The table of all measurements; `bound` is the T4's, in images a second."""
    width = max(len(result.form) for result in results)
    lines = [machine_line(machine), ""]
    lines.append(f"{'':{width}}  batch   ms a call  (first to last tenth)  images/s  calls")
    for name in dict.fromkeys(result.form for result in results):
        for result in (r for r in results if r.form == name):
            lines.append(_speed_line(result, width))
    if agreements:
        lines += ["", "Against ONNX Runtime FP32, on one image:"]
        lines += [
            f"{name:{width}}  class ids {found.class_ids:.1%}, scores within {found.scores:.1e}, "
            f"pixels {found.masks:.3%}"
            for name, found in agreements.items()
        ]
    lines += ["", *(f"Not run: {form.name} {form.reason}." for form in absent)]
    lines.append(
        f"A T4 answers {card.IMAGES_PER_SECOND} images/s with TensorRT (the model card), the aim "
        f"is {card.AIM}, its roofline {bound}."
    )
    return "\n".join(lines)


def _speed_line(result: Result, width: int) -> str:
    median, low, high = (
        1000 * value for value in (result.seconds.median, result.seconds.low, result.seconds.high)
    )
    return (
        f"{result.form:{width}}  {result.batch:5}  {median:10.2f}  ({low:8.2f} to {high:8.2f})  "
        f"{result.images_per_second:9.2f}  {result.seconds.calls:5}"
    )


def roofline_text(costs: Sequence[Cost], batch: int, precision: str) -> str:
    """The bound, part by part, for one image; then the dearest kernels."""
    bound = images_per_second(costs, batch)
    whole = sum(cost.seconds for cost in costs) / batch * 1e6
    title = f"{T4.name}, {precision}, batch {batch}, for each image"
    lines = [f"{title:<40}  kernels  GFLOP     MB      µs   share  waits for"]
    for part in parts(costs, batch):
        share, waits = part.microseconds / whole, _waits(part.memory_bound)
        lines.append(
            f"{part.section:<40}  {part.kernels:7}  {part.gflop:5.2f}  {part.megabytes:5.1f}  "
            f"{part.microseconds:6.0f}  {share:6.1%}  {waits}"
        )
    lines.append(
        f"{'all':<40}  {len(costs):7}  {sum(c.flop for c in costs) / batch / 1e9:5.2f}  "
        f"{sum(c.bytes for c in costs) / batch / 1e6:5.1f}  {whole:6.0f}"
    )
    lines += ["", f"{'the dearest kernels':<58}  GFLOP     MB      µs   share"]
    for cost in sorted(costs, key=lambda cost: -cost.seconds)[:DEAREST]:
        one = cost.seconds / batch * 1e6
        lines.append(
            f"{cost.name[-58:]:<58}  {cost.flop / batch / 1e9:5.2f}  "
            f"{cost.bytes / batch / 1e6:5.1f}  {one:6.0f}  {one / whole:6.1%}"
        )
    lines += [
        "",
        f"At most {bound:.0f} images/s: every kernel at {T4.peaks['fp16'] / 1e12:.0f} TFLOP/s "
        f"FP16, {T4.peaks['int8'] / 1e12:.0f} TOP/s INT8 or {T4.bandwidth / 1e9:.0f} GB/s, "
        "pointwise operations fused, launches free.",
        f"The card's {card.IMAGES_PER_SECOND} images/s are {card.IMAGES_PER_SECOND / bound:.0%} of "
        f"it, the aim of {card.AIM} is {card.AIM / bound:.0%}.",
    ]
    return "\n".join(lines)


def _waits(memory_bound: float) -> str:
    if memory_bound > 0.9:
        return "memory"
    return "arithmetic" if memory_bound < 0.1 else f"memory {memory_bound:.0%}"


def as_json(
    machine: dict[str, object],
    results: Sequence[Result],
    absent: Sequence[Absent],
    agreements: Mapping[str, Agreement],
    bounds: Mapping[int, float],
    precision: str,
) -> dict[str, object]:
    return {
        "machine": machine,
        "results": [
            asdict(result) | {"images_per_second": result.images_per_second} for result in results
        ],
        "not_run": [asdict(form) for form in absent],
        "agreement_with_onnx_runtime": {name: asdict(a) for name, a in agreements.items()},
        "card": {"device": "T4", "images_per_second": card.IMAGES_PER_SECOND, "aim": card.AIM},
        "roofline": {
            "device": T4.name,
            "precision": precision,
            "images_per_second": {str(batch): value for batch, value in bounds.items()},
        },
    }


def roofline_json(costs: Sequence[Cost], batch: int, precision: str) -> dict[str, object]:
    """`kernels` are for the whole batch (flop, bytes, seconds), `parts` for one image."""
    return {
        "device": asdict(T4),
        "precision": precision,
        "batch": batch,
        "images_per_second": images_per_second(costs, batch),
        "parts": [asdict(part) for part in parts(costs, batch)],
        "kernels": [asdict(cost) | {"seconds": cost.seconds} for cost in costs],
    }


def write_json(path: Path, content: dict[str, object]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return path
