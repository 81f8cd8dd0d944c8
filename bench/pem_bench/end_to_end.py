"""Serve images with this repository and with its peers, in turns, and compare them end to end.

    ./run bench end-to-end                              # ours and every peer; about six minutes
    ./run bench end-to-end --only ours fastapi-ours     # some of them

Each system runs alone, in processes of its own on the same cores. One light client process keeps N
requests in flight, each the same JPEG file, and checks each answer. In each round each system is
started, warmed up, measured and stopped, in a new order. The client's own load is reported.
"""

import argparse
import random
import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pem_client import Detections
from pem_server.checkout import ROOT
from pem_server.console import log

from .agreement import Difference, checker, compare
from .bench_report import end_to_end_text, publish
from .cli import BenchError
from .load_generator import Check, Connect, LoadResult, closed_loop, merge, send_once
from .machine import describe_machine, installed
from .processes import cpu_by_role, memory_mb
from .systems import Launcher, System, launchers

FOLDER = ROOT / "artifacts" / "bench"
IMAGE = ROOT / "docs" / "street.jpg"
PEER_PACKAGES = ("nvidia-pytriton", "fastapi", "uvicorn", "litserve")
WARM_UP = 24  # requests: three full batches, so that every size of a batch was seen

Row = dict[str, Any]  # see `row_of`


@dataclass(frozen=True)
class Turn:
    """One load and the processor seconds that the server's processes spent on it."""

    load: LoadResult
    cpu: dict[str, float]


@dataclass
class Measured:
    """All turns of one system, by protocol and requests in flight."""

    turns: dict[tuple[str, int], list[Turn]] = field(default_factory=dict)
    megabytes: float = 0.0  # the most after a turn
    difference: Difference | None = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=launchers(), help="systems")
    parser.add_argument(
        "--in-flight", type=int, nargs="+", default=[1, 2, 4, 8, 16], metavar="N",
        help="requests at once (default: 1 2 4 8 16)",
    )  # fmt: skip
    parser.add_argument("--rounds", type=int, default=2, help="turns of a system (default: 2)")
    parser.add_argument("--turn-seconds", type=float, default=5, help="of a turn (default: 5)")
    parser.add_argument("--peer-workers", type=int, default=1, help="of ONNX Runtime's peers")
    parser.add_argument("--peer-threads", type=int, default=0, help="of each; 0 (default): all")
    add_common_arguments(parser)


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """What every measurement of a served system has."""
    parser.add_argument("--image", type=Path, default=IMAGE, help="default: %(default)s")
    parser.add_argument(
        "--output", type=Path, default=FOLDER, help="folder of the JSON (default: %(default)s)"
    )


def run(options: argparse.Namespace) -> None:
    require_positive(options.rounds, options.turn_seconds, options.peer_workers, *options.in_flight)
    with tempfile.TemporaryDirectory(prefix="pem-bench-") as scratch:
        known = launchers(Path(scratch), options.peer_workers, options.peer_threads)
        chosen = [known[name] for name in options.only or known]
        content = compare_systems(chosen, options.in_flight, options)
    publish(options.output, "end-to-end", content, end_to_end_text(content))


def require_positive(*numbers: float) -> None:
    if min(numbers) <= 0:
        raise BenchError("all numbers of rounds, requests and seconds must be above 0")


def compare_systems(
    chosen: Sequence[Launcher], in_flight: Sequence[int], options: argparse.Namespace
) -> dict[str, Any]:
    """Machine, settings, systems and rows of a report."""
    machine, image = describe_machine(), options.image.read_bytes()
    measured = measure_all(chosen, image, in_flight, options)
    return {
        "machine": machine,
        "packages": {name: installed(name) for name in PEER_PACKAGES},
        "settings": {
            "image": options.image.name,
            "bytes": len(image),
            "rounds": options.rounds,
            "turn_seconds": options.turn_seconds,
        },
        "systems": {
            launcher.name: {
                "summary": launcher.summary,
                "megabytes": measured[launcher.name].megabytes,
                "difference": vars(measured[launcher.name].difference),
            }
            for launcher in chosen
        },
        "rows": [
            row_of(name, protocol, in_flight, turns)
            for name, seen in measured.items()
            for (protocol, in_flight), turns in seen.turns.items()
        ],
    }


def measure_all(
    chosen: Sequence[Launcher], image: bytes, in_flight: Sequence[int], options: argparse.Namespace
) -> dict[str, Measured]:
    """Every round of every system; the first answer is the others' reference."""
    measured = {launcher.name: Measured() for launcher in chosen}
    order, shuffle = list(chosen), random.Random(0).shuffle
    reference = b""
    for number in range(options.rounds):
        for launcher in order:
            log(f"round {number + 1} of {options.rounds}: {launcher.name} ...")
            with ExitStack() as stack:
                system = launcher.start(stack, image)
                answer = send_once(next(iter(system.connections.values())))
                reference = reference or answer
                seen = measured[launcher.name]
                seen.difference = difference(launcher.name, answer, reference)
                measure(system, checker(reference), in_flight, options.turn_seconds, seen)
        shuffle(order)
    return measured


def difference(name: str, answer: bytes, reference: bytes) -> Difference:
    """How far an answer is from the reference; BenchError if it is another one."""
    found = compare(Detections.from_json(answer), Detections.from_json(reference))
    if found.missing:
        raise BenchError(f"{name} must find what the others find, but differs: {found}")
    return found


def measure(
    system: System, check: Check, in_flight: Sequence[int], turn_seconds: float, seen: Measured
) -> None:
    """Warm the system up, then a turn for each protocol and number of requests in flight."""
    for protocol, connect in system.connections.items():
        closed_loop(connect, check, in_flight=max(in_flight), requests=WARM_UP)
        for number in in_flight:
            turn = timed_turn(system, connect, check, number, turn_seconds)
            seen.turns.setdefault((protocol, number), []).append(turn)
            seen.megabytes = max(seen.megabytes, memory_mb(system.pids))


def timed_turn(
    system: System, connect: Connect, check: Check, in_flight: int, seconds: float
) -> Turn:
    before = cpu_by_role(system.pids)
    load = closed_loop(connect, check, in_flight=in_flight, seconds=seconds)
    after = cpu_by_role(system.pids)
    return Turn(load, {role: used - before.get(role, 0.0) for role, used in after.items()})


def row_of(name: str, protocol: str, in_flight: int, turns: Sequence[Turn]) -> Row:
    """All rounds of a system together; `cpu_ms` is processor time an image, by process."""
    load = merge([turn.load for turn in turns])
    for failure in load.failures[:1]:
        log(f"{name}, {protocol}, {in_flight} in flight: {failure}")
    images = max(1, len(load.latencies))
    cpu: Counter[str] = Counter()
    for turn in turns:
        cpu.update(turn.cpu)
    cpu_ms = {role: 1000 * seconds / images for role, seconds in sorted(cpu.items())}
    return {
        "system": name,
        "protocol": protocol,
        "in_flight": in_flight,
        "answers": len(load.latencies),
        "failures": len(load.failures),
        "images_per_second": load.images_per_second,
        "p50_ms": load.milliseconds(50),
        "p99_ms": load.milliseconds(99),
        "cpu_ms": cpu_ms,
        "server_cpu_ms": sum(cpu_ms.values()),
        "client_cpu_ms": 1000 * load.client_seconds / images,
    }
