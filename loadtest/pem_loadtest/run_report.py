"""Runs the load test and writes report.json, steps.csv, requests.csv, latency.png, capacity."""

import csv
import importlib.metadata
import json
import math
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .capacity import Capacity, write_capacity
from .coordinator import Coordinator, RunResult, StepResult
from .latency_plot import draw
from .options import Settings
from .samples import Outcome, summarise
from .target_server import describe as describe_server
from .target_server import server_machine, this_machine
from .verdict import Verdict

PACKAGES = ("locust", "tritonclient", "grpcio", "geventhttpclient", "pem-client", "pem-loadtest")
MILLISECONDS = ("latency_ms", "lateness_ms")


def run(coordinator: Coordinator, settings: Settings, url: str) -> Verdict:
    """Run, print the table, write the files; the verdict is the exit code."""
    began = datetime.now(UTC)
    server = describe_server(url)
    print(f"{server['model']} at {url}", file=sys.stderr)
    result = coordinator.run()
    found = describe(result, settings, url, server, began)
    write(found, result, settings.output)
    print(table(found))
    if settings.capacity_file and measured_capacity(found, settings.capacity_file):
        print(f"capacity: {settings.capacity_file}")
    print(f"report: {settings.output}", flush=True)
    return result.evaluation.verdict


def describe(
    result: RunResult, settings: Settings, url: str, server: dict[str, str], began: datetime
) -> dict[str, Any]:
    """Everything about a run but the single requests, ready for JSON."""
    return {
        "verdict": result.evaluation.verdict.name.lower(),
        "reasons": list(result.evaluation.reasons),
        "knee_images_per_second": result.knee,
        "began_at": began.isoformat(timespec="seconds"),
        "url": url,
        **server,
        "machine": settings.machine or server_machine(url),
        "client_machine": this_machine(),
        "versions": {
            "python": platform.python_version(),
            **{package: importlib.metadata.version(package) for package in PACKAGES},
        },
        "settings": {key: _plain(value) for key, value in settings._asdict().items()},
        "steps": [describe_step(step) for step in result.steps],
    }


def describe_step(result: StepResult) -> dict[str, Any]:
    """One step: its planned load, what clients measured, what the server counted."""
    figures = summarise(result.samples, result.step.seconds)
    return {
        "label": result.step.label,
        "rate": result.step.rate,
        "seconds": result.step.seconds,
        **{key: _plain(value) for key, value in figures.items()},
        "server": result.server,
        "verdict": result.evaluation.verdict.name.lower(),
        "reasons": list(result.evaluation.reasons),
    }


def write(report: dict[str, Any], result: RunResult, folder: Path) -> None:
    """All files but the capacity file, into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    _write_steps(report["steps"], folder / "steps.csv")
    _write_requests(result, folder / "requests.csv")
    if result.steps:
        draw(result, report, folder / "latency.png")


def measured_capacity(report: dict[str, Any], file: Path) -> Capacity | None:
    """Write the capacity that a ladder found; nothing when it found none."""
    settings = report["settings"]
    knee = report["knee_images_per_second"]
    is_valid = report["verdict"] != Verdict.INVALID.name.lower() and settings["shape"] == "ladder"
    if not is_valid or knee is None or knee >= settings["highest_rate"]:
        return None
    capacity = Capacity(
        capacity_images_per_second=math.floor(knee * 10) / 10,
        latency_goal_ms=settings["latency_goal"],
        percentile=settings["percentile"],
        protocol=report["url"].partition("://")[0],
        shape=settings["shape"],
        seed=settings["seed"],
        machine=report["machine"],
        triton_version=report["triton_version"],
        model=report["model"],
        measured_at=report["began_at"],
    )
    write_capacity(file, capacity)
    return capacity


def table(report: dict[str, Any]) -> str:
    """The summary printed at the end."""
    head = "step         sent/s  answered/s   p50 ms   p95 ms   p99 ms  failed  batch  queue ms"
    lines = [f"{report['model']} at {report['url']}, Triton {report['triton_version']}", "", head]
    for step in report["steps"]:
        network = step["server"].get("pem_network", {"batch": math.nan, "queue_ms": math.nan})
        p50, p95, p99 = (step[f"p{each}_ms"] or math.nan for each in (50, 95, 99))
        sent, answered = step["sent_per_second"], step["answered_per_second"]
        lines.append(
            f"{step['label']:<10} {sent:8.1f} {answered:11.1f}"
            f" {p50:8.0f} {p95:8.0f} {p99:8.0f} {step['failure_share']:7.2%}"
            f" {network['batch']:6.1f} {network['queue_ms']:9.0f}"
        )
    if report["knee_images_per_second"]:
        lines += ["", f"knee: {report['knee_images_per_second']:.1f} images a second"]
    reasons = "".join(f"\n  {reason}" for reason in report["reasons"])
    return "\n".join([*lines, "", f"{report['verdict'].upper()}{reasons}"])


def _write_steps(steps: list[dict[str, Any]], file: Path) -> None:
    """A row for each step: counts of each kind of failure, and each model's figures, as columns."""
    failures = [outcome.name.lower() for outcome in Outcome if outcome.is_failure]
    rows = []
    for step in steps:
        row = step | {"reasons": "; ".join(step["reasons"])}
        row |= dict.fromkeys(failures, 0) | row.pop("failures")
        for model, figures in row.pop("server").items():
            row |= {f"{model}_{key}": value for key, value in figures.items()}
        rows.append(row)
    with file.open("w", newline="") as stream:
        columns = dict.fromkeys(key for row in rows for key in row)
        writer = csv.DictWriter(stream, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _write_requests(result: RunResult, file: Path) -> None:
    with file.open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["step", "due_s", "image", "outcome", *MILLISECONDS])
        for step in result.steps:
            for one in step.samples:
                outcome = Outcome(one["outcome"]).name.lower()
                due, latency, lateness = (one[name] for name in ("due_s", *MILLISECONDS))
                row = [step.step.label, f"{due:.6f}", one["image"], outcome]
                writer.writerow([*row, f"{latency:.3f}", f"{lateness:.3f}"])


def _plain(value: Any) -> Any:
    """JSON knows neither paths nor nan."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value
