"""Measure everything here in one run and write one report.

    ./run bench                 # about ten minutes on two cores
    ./run bench --quick         # about four, and noisier
    ./run bench WHAT --help     # one part alone, with all its options

Into artifacts/bench: report.md with every table and plot and where we lose, report.json with every
number. Nothing else should run on the machine meanwhile. The sweep of the configuration is not part
of it: ./run bench sweep.
"""

import argparse
import contextlib
import io
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from .cli import VERBS, BenchError, parser_of, verbs
from .end_to_end import FOLDER, say
from .losses import losses
from .machine import describe_machine, machine_line
from .report import write_json

NORMAL = {
    "engine": ["--rounds", "3", "--batches", "1", "8"],
    "steps": [],
    "end-to-end": ["--rounds", "1", "--turn-seconds", "4"],
    "share": ["--rounds", "2", "--turn-seconds", "6", "--open-seconds", "45"],
    "memory": ["--real-requests", "40"],
}
QUICK = {
    "engine": ["--rounds", "1", "--batches", "1", "8"],
    "steps": [],
    "end-to-end": ["--rounds", "1", "--turn-seconds", "2", "--in-flight", "1", "4", "16"],
    "share": ["--rounds", "1", "--turn-seconds", "4", "--open-seconds", "20"],
    "memory": ["--real-requests", "16"],
}


@dataclass(frozen=True)
class Part:
    """What one verb printed, wrote and took."""

    verb: str
    text: str
    plots: tuple[str, ...]  # file names
    seconds: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quick", action="store_true", help="shorter turns, fewer of them")
    parser.add_argument(
        "--skip", nargs="+", default=[], metavar="WHAT", choices=NORMAL, help="parts to leave out"
    )
    parser.add_argument(
        "--output", type=Path, default=FOLDER, help="folder of everything (default: %(default)s)"
    )


def run(options: argparse.Namespace) -> None:
    machine = describe_machine()
    settings = QUICK if options.quick else NORMAL
    wanted = [verb for verb in settings if verb in verbs() and verb not in options.skip]
    parts = [run_part(verb, settings[verb], options.output) for verb in wanted]
    contents = read_contents(wanted, options.output)
    lost = losses(contents)
    write_json(options.output / "report.json", {"machine": machine, **contents, "losses": lost})
    report = options.output / "report.md"
    report.write_text(report_text(machine, parts, lost), encoding="utf-8")
    print(losses_text(lost))
    print(report)


def run_part(verb: str, arguments: Sequence[str], output: Path) -> Part:
    """Run one verb into `output` and keep what it prints; its failure is its text."""
    say(f"\n{verb}: {VERBS[verb][1]}")
    module = import_module(VERBS[verb][0])
    parser = parser_of(verb, module)
    printed, start = Tee(), time.monotonic()
    before = modified(output, "*.png")
    (output / f"{verb}.json").unlink(missing_ok=True)  # of another run
    with contextlib.redirect_stdout(printed):
        try:
            module.run(parser.parse_args([*arguments, "--output", str(output)]))
        except (BenchError, OSError) as error:
            print(f"Not measured: {error}")
    plots = sorted(set(modified(output, "*.png").items()) - set(before.items()))
    names = tuple(path.name for path, _ in plots)
    written = {str(output / f"{verb}.json"), *(str(path) for path, _ in plots)}
    lines = [line for line in printed.getvalue().splitlines() if line not in written]
    return Part(verb, "\n".join(lines).strip(), names, time.monotonic() - start)


class Tee(io.StringIO):
    """Keeps what is printed, and shows it."""

    def __init__(self) -> None:
        super().__init__()
        self._shown = sys.stdout

    def write(self, text: str) -> int:
        self._shown.write(text)
        return super().write(text)


def modified(folder: Path, pattern: str) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.glob(pattern)}


def read_contents(wanted: Sequence[str], folder: Path) -> dict[str, Any]:
    """The JSON report of each verb that wrote one."""
    paths = {verb: folder / f"{verb}.json" for verb in wanted}
    return {
        verb: json.loads(path.read_text(encoding="utf-8"))
        for verb, path in paths.items()
        if path.is_file()
    }


def report_text(machine: Mapping[str, object], parts: Sequence[Part], lost: Sequence[str]) -> str:
    """The report as Markdown; its plots lie beside it."""
    blocks = [
        "# Benchmark",
        f"Made by `./run bench` in {sum(part.seconds for part in parts) / 60:.0f} minutes on: "
        f"{machine_line(dict(machine))}.",
    ]
    for part in parts:
        blocks.append(f"## {part.verb}: {VERBS[part.verb][1]}")
        blocks.append(f"```\n{part.text}\n```")
        blocks += [f"![{name}]({name})" for name in part.plots]
    blocks.append(losses_text(lost))
    blocks.append("The peers' code: `bench/peers`.")
    return "\n\n".join(blocks) + "\n"


def losses_text(lost: Sequence[str]) -> str:
    if not lost:
        return "## Where we lose\n\nNowhere in this run, by more than 3%."
    return "\n".join(["## Where we lose", "", *(f"* {sentence}" for sentence in lost)])
