"""Serve images with this repository and with the peers, in turns, and compare them end to end.

    ./run bench end-to-end                              # ours and every peer; about six minutes
    ./run bench end-to-end --only ours fastapi-ours     # some of them

Each system runs alone, in processes of its own on the same cores, asked by one light process with
N requests always in flight, each the same JPEG file, each answer checked. In each round each system
is started, warmed up, measured and stopped, in a new order. What the client itself takes is told.
"""

import argparse
import random
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from pem_client import Detections
from pemexport import contract

from .agreement import Difference, checker, compare
from .cli import BenchError
from .end_to_end_report import end_to_end_text, write_end_to_end_plot
from .load import Answered, ask_once, closed_loop, join
from .machine import busy_warning, describe_machine, installed
from .processes import cpu_seconds, memory
from .report import write_json
from .systems import Kind, System, kinds

FOLDER = contract.ROOT / "artifacts" / "bench"
IMAGE = contract.ROOT / "docs" / "street.jpg"
PEER_PACKAGES = ("nvidia-pytriton", "fastapi", "uvicorn", "litserve")
WARM_UP = 24  # requests: three full batches, so that every size of a batch was seen


@dataclass(frozen=True)
class Row:
    """One system over one protocol with so many requests in flight, all rounds together."""

    system: str
    protocol: str
    in_flight: int
    answers: int
    failures: int
    images_per_second: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    server_cpu_ms: float  # processor time an image, all the system's processes
    client_cores: float  # that the asking process kept busy


@dataclass
class Measured:
    """What was seen of one system; lists grow by a turn each round."""

    turns: dict[tuple[str, int], list[tuple[Answered, float]]]  # with the servers' seconds
    megabytes: float = 0.0  # the most after a turn
    difference: Difference | None = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=kinds(), help="systems")
    parser.add_argument(
        "--in-flight", type=int, nargs="+", default=[1, 2, 4, 8, 16], metavar="N",
        help="requests at once (default: 1 2 4 8 16)",
    )  # fmt: skip
    parser.add_argument("--rounds", type=int, default=2, help="turns of a system (default: 2)")
    parser.add_argument(
        "--turn-seconds", type=float, default=5, help="of sending in each turn (default: 5)"
    )
    add_common_arguments(parser)


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """What every measurement of a served system has."""
    parser.add_argument("--image", type=Path, default=IMAGE, help="default: %(default)s")
    parser.add_argument(
        "--output", type=Path, default=FOLDER, help="folder of JSON and plot (default: %(default)s)"
    )


def run(options: argparse.Namespace) -> None:
    if min(options.rounds, *options.in_flight) < 1 or options.turn_seconds <= 0:
        raise BenchError("--rounds, --in-flight and --turn-seconds must be above 0")
    machine = describe_machine()
    image = options.image.read_bytes()
    with tempfile.TemporaryDirectory(prefix="pem-bench-") as scratch:
        every = kinds(Path(scratch))
        chosen = [every[name] for name in options.only or every]
        found = measure_all(chosen, image, options)
    content = {
        "machine": machine,
        "packages": {name: installed(name) for name in PEER_PACKAGES},
        "settings": {
            "image": options.image.name,
            "bytes": len(image),
            "rounds": options.rounds,
            "turn_seconds": options.turn_seconds,
        },
        "systems": {
            kind.name: {
                "summary": kind.summary,
                "megabytes": found[kind.name].megabytes,
                "difference": vars(found[kind.name].difference or Difference(0, 0.0, 1.0)),
            }
            for kind in chosen
        },
        "rows": [vars(row) for name, seen in found.items() for row in rows_of(name, seen)],
    }
    print(end_to_end_text(content))
    if warning := busy_warning(machine):
        print(warning)
    print(write_json(options.output / "end-to-end.json", content))
    print(write_end_to_end_plot(options.output / "end-to-end.png", content))


def measure_all(
    chosen: Sequence[Kind], image: bytes, options: argparse.Namespace
) -> dict[str, Measured]:
    """Every round of every system; the first answer of the first system is the reference."""
    found = {kind.name: Measured({}) for kind in chosen}
    order, shuffle = list(chosen), random.Random(0).shuffle
    reference: bytes | None = None
    for number in range(options.rounds):
        for kind in order:
            say(f"round {number + 1} of {options.rounds}: {kind.name} ...")
            with ExitStack() as stack:
                system = kind.start(stack, image)
                answer = ask_once(next(iter(system.lanes.values())))
                reference = reference or answer
                seen = found[kind.name]
                seen.difference = difference(kind.name, answer, reference)
                measure(system, checker(reference), options, seen)
        shuffle(order)
    return found


def difference(name: str, answer: bytes, reference: bytes) -> Difference:
    """How far one answer is from the reference; BenchError when it is another one."""
    found = compare(Detections.from_json(answer), Detections.from_json(reference))
    if found.missing:
        raise BenchError(f"{name} must find what the others find, but differs: {found}")
    return found


def measure(
    system: System,
    check: Callable[[bytes], str | None],
    options: argparse.Namespace,
    seen: Measured,
) -> None:
    """Warm the system up, then a turn for each protocol and number of requests in flight."""
    for protocol, lane in system.lanes.items():
        closed_loop(lane, check, in_flight=max(options.in_flight), requests=WARM_UP)
        for in_flight in options.in_flight:
            before = cpu(system)
            turn = closed_loop(lane, check, in_flight=in_flight, seconds=options.turn_seconds)
            seen.turns.setdefault((protocol, in_flight), []).append((turn, cpu(system) - before))
            seen.megabytes = max(seen.megabytes, memory(system.pids).pss)


def cpu(system: System) -> float:
    return sum(map(cpu_seconds, system.pids))


def rows_of(name: str, seen: Measured) -> list[Row]:
    rows = []
    for (protocol, in_flight), turns in seen.turns.items():
        answered = join([turn for turn, _ in turns])
        answers = len(answered.latencies)
        rows.append(
            Row(
                name,
                protocol,
                in_flight,
                answers,
                len(answered.failures),
                answered.images_per_second,
                answered.milliseconds(50),
                answered.milliseconds(95),
                answered.milliseconds(99),
                1000 * sum(seconds for _, seconds in turns) / max(1, answers),
                answered.client_seconds / answered.seconds,
            )
        )
        for failure in answered.failures[:1]:
            say(f"{name}, {protocol}, {in_flight} in flight: {failure}")
    return rows


def say(text: str) -> None:
    print(text, file=sys.stderr)
