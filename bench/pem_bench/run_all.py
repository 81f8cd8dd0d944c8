"""Measure everything here in one run and write one report.

    ./run bench                    # about ten minutes on two cores
    ./run bench --quick            # about four, and noisier
    ./run bench COMMAND --help     # one part alone, with all its options

Into artifacts/bench: report.md with every table and where we lose, report.json with every
number. Nothing else should run on the machine meanwhile.
"""

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from pem_server.console import log

from .bench_report import write_json
from .cli import COMMANDS, BenchError, current, parser_of
from .end_to_end import FOLDER
from .machine import describe_machine, machine_line
from .regressions import regressions

NORMAL = {
    "engine": ["--rounds", "3", "--batches", "1", "8"],
    "steps": ["--rounds", "2", "--turn-seconds", "8"],
    "end-to-end": ["--rounds", "1", "--turn-seconds", "4"],
    "overhead": ["--rounds", "2", "--turn-seconds", "6", "--open-seconds", "45"],
    "memory": ["--real-requests", "40"],
}
QUICK = {
    "engine": ["--rounds", "1", "--batches", "1", "8"],
    "steps": ["--rounds", "1", "--turn-seconds", "4"],
    "end-to-end": ["--rounds", "1", "--turn-seconds", "2", "--in-flight", "1", "4", "16"],
    "overhead": ["--rounds", "1", "--turn-seconds", "4", "--open-seconds", "20"],
    "memory": ["--real-requests", "16"],
}


@dataclass(frozen=True)
class Part:
    """What one command found, the seconds it took, and where it may have left a plot."""

    command: str
    text: str
    seconds: float
    plot: Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quick", action="store_true", help="shorter turns, fewer of them")
    parser.add_argument(
        "--skip", nargs="+", default=[], metavar="COMMAND", choices=NORMAL,
        type=lambda command: current([command])[0], help="parts to leave out",
    )  # fmt: skip
    parser.add_argument(
        "--output", type=Path, default=FOLDER, help="folder of all files (default: %(default)s)"
    )


def run(options: argparse.Namespace) -> None:
    machine = describe_machine()
    settings = QUICK if options.quick else NORMAL
    commands = [command for command in settings if command not in options.skip]
    parts = [run_part(command, settings[command], options.output) for command in commands]
    written = [options.output / f"{command}.json" for command in commands]
    contents = {file.stem: json.loads(file.read_text("utf-8")) for file in written if file.exists()}
    found = regressions(contents)
    write_json(options.output / "report.json", {"machine": machine, **contents, "losses": found})
    report = options.output / "report.md"
    report.write_text(report_text(machine, parts, found), encoding="utf-8")
    print(regressions_text(found))
    print(report)


def run_part(command: str, arguments: Sequence[str], output: Path) -> Part:
    """Run one command into `output`; the text of a failure is its sentence."""
    log(f"\n{command}: {COMMANDS[command][1]}")
    module = import_module(COMMANDS[command][0])
    written, start = output / f"{command}.json", time.monotonic()
    plot = written.with_suffix(".png")
    written.unlink(missing_ok=True)
    plot.unlink(missing_ok=True)
    parser = parser_of(command, module)
    try:
        module.run(parser.parse_args([*arguments, "--output", str(output)]))
        text = json.loads(written.read_text("utf-8"))["text"]
    except (BenchError, OSError) as error:
        text = f"Not measured: {error}"
        print(text)
    return Part(command, text, time.monotonic() - start, plot)


def report_text(machine: Mapping[str, Any], parts: Sequence[Part], found: Sequence[str]) -> str:
    """The report as Markdown."""
    minutes = sum(part.seconds for part in parts) / 60
    blocks = [
        "# Benchmark",
        f"Made by `./run bench` in {minutes:.0f} minutes on: {machine_line(machine)}.",
    ]
    for part in parts:
        blocks += [f"## {part.command}: {COMMANDS[part.command][1]}", f"```\n{part.text}\n```"]
        if part.plot.is_file():
            blocks.append(f"![{part.command}]({part.plot.name})")
    blocks += [regressions_text(found), "The peers' code: `bench/peers`."]
    return "\n\n".join(blocks) + "\n"


def regressions_text(found: Sequence[str]) -> str:
    if not found:
        return "## Where we lose\n\nNowhere in this run, by more than 3%."
    return "\n".join(["## Where we lose", "", *(f"* {sentence}" for sentence in found)])
