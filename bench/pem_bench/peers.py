"""Try the peers' documented settings, so that each is compared at its best.

    ./run bench peers           # about two minutes

Workers and threads of the services with ONNX Runtime: one process with all cores, or one process a
core. Each is served alone and asked with one request, then with many in flight. What answers most
is what systems.py gives them.
"""

import argparse
import os
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from .agreement import checker
from .end_to_end import WARM_UP, add_common_arguments, say
from .load import ask_once, closed_loop
from .machine import describe_machine, machine_line
from .report import write_json
from .systems import System, start_fastapi, start_litserve

Start = Callable[..., System]

PEERS: dict[str, Start] = {
    "fastapi-onnxruntime": start_fastapi,
    "litserve-onnxruntime": start_litserve,
}
IN_FLIGHT = (1, 4, 16)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--turn-seconds", type=float, default=6, help="default: 6")
    add_common_arguments(parser)


def run(options: argparse.Namespace) -> None:
    cores = len(os.sched_getaffinity(0))
    machine, image = describe_machine(), options.image.read_bytes()
    rows = [
        measure(name, start, image, workers, threads, options.turn_seconds)
        for name, start in PEERS.items()
        for workers, threads in sorted({(1, cores), (1, 1), (cores, 1)})
    ]
    print(peers_text(machine, rows))
    print(write_json(options.output / "peers.json", {"machine": machine, "rows": rows}))


def measure(
    name: str, start: Start, image: bytes, workers: int, threads: int, seconds: float
) -> dict[str, Any]:
    """Images a second of one peer with these settings, by requests in flight."""
    say(f"{name}: {workers} workers, {threads} threads each ...")
    with ExitStack() as stack:
        lane = start(stack, image, workers=workers, threads=threads).lanes["http"]
        check = checker(ask_once(lane))
        closed_loop(lane, check, in_flight=max(IN_FLIGHT), requests=WARM_UP)
        speeds = {
            str(in_flight): closed_loop(
                lane, check, in_flight=in_flight, seconds=seconds
            ).images_per_second
            for in_flight in IN_FLIGHT
        }
    return {"peer": name, "workers": workers, "threads": threads, "images_per_second": speeds}


def peers_text(machine: dict[str, object], rows: list[dict[str, Any]]) -> str:
    head = "".join(f"{in_flight:>8}" for in_flight in IN_FLIGHT)
    lines = [machine_line(machine), "", f"{'images a second':22} workers  threads{head}"]
    for row in rows:
        speeds = "".join(f"{speed:8.2f}" for speed in row["images_per_second"].values())
        lines.append(f"{row['peer']:22} {row['workers']:7}  {row['threads']:7}{speeds}")
    return "\n".join(lines)
