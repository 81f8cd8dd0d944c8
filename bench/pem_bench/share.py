"""What the server takes beside the network: the ensemble at saturation against the bare engine.

    ./run bench share

The bare engine is the network step's own, called in a loop in one process on the same cores. The
steps around it take processor time that the engine cannot have, so what could be reached is

    1 / (1 / bare + steps' processor time an image / cores)

images a second. Then images arrive at 80% of the saturated rate, at first evenly, then as a
Poisson process. Beside their latencies stand those of an ideal server: one that takes 1 / saturated
rate for each of the same arrivals, in order, with no jitter. By queueing theory its p99 is about
five times its median when arrivals are Poisson's, so nobody can stay under three there.
"""

import argparse
import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import Any

from .agreement import checker
from .bare_engine import Looped, loop, open_engine
from .cli import BenchError
from .end_to_end import WARM_UP, add_common_arguments, say
from .engine import views
from .load import Answered, ask_once, closed_loop, join, open_loop
from .machine import busy_warning, describe_machine, machine_line
from .percentiles import evenly, ideal_latencies, percentile, poisson
from .processes import seconds_by_role
from .report import write_json
from .systems import REPOSITORY, System, start_ours

ARRIVALS = {"even": evenly, "Poisson": poisson}  # name -> offsets by rate and seconds
STEPS = ("pem_preprocess", "pem_postprocess")
BATCHES = (1, 8)  # of the bare engine; the faster one counts
LOAD = 0.8  # of the saturated rate
SHARE_GOAL, RATIO_GOAL = 0.9, 3.0


@dataclass(frozen=True)
class Share:
    """Images a second, and milliseconds of processor time an image."""

    bare: float  # the fastest of bare_by_batch
    bare_by_batch: dict[str, float]
    saturated: float
    cores: int
    cpu_ms: dict[str, float]  # by process, at saturation; the client's too
    reachable: float  # the steps' time counted
    with_client: float  # and the client's, who sits on the same cores

    @property
    def share(self) -> float:
        return self.saturated / self.reachable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=3, help="turns of each (default: 3)")
    parser.add_argument("--turn-seconds", type=float, default=6, help="default: 6")
    parser.add_argument("--in-flight", type=int, default=16, help="at saturation (default: 16)")
    parser.add_argument(
        "--open-seconds", type=float, default=60, help="of arrivals by the clock (default: 60)"
    )
    add_common_arguments(parser)


def run(options: argparse.Namespace) -> None:
    if min(options.rounds, options.in_flight, options.turn_seconds, options.open_seconds) <= 0:
        raise BenchError("all numbers must be above 0")
    machine = describe_machine()
    image = options.image.read_bytes()
    with ExitStack() as stack:
        system = start_ours(stack, image)
        share = measure_share(system, options)
        rate = LOAD * share.saturated
        paced = {
            name: measure_paced(system, rate, arrivals(rate, options.open_seconds))
            for name, arrivals in ARRIVALS.items()
        }
    content: dict[str, object] = {
        "machine": machine,
        "share": asdict(share) | {"share": share.share},
        "paced": paced,
    }
    print(share_text(content))
    if warning := busy_warning(machine):
        print(warning)
    print(write_json(options.output / "share.json", content))


def measure_share(system: System, options: argparse.Namespace) -> Share:
    """The bare engine at each batch size and the saturated ensemble take turns."""
    engine, images = open_engine(REPOSITORY), views(options.image, max(BATCHES))
    lane = system.lanes["grpc"]
    check = checker(ask_once(lane))
    closed_loop(lane, check, in_flight=options.in_flight, requests=WARM_UP)
    bare: dict[int, list[Looped]] = {batch: [] for batch in BATCHES}
    turns: list[Answered] = []
    used: dict[str, float] = {}
    for number in range(options.rounds):
        say(f"round {number + 1} of {options.rounds} ...")
        for batch, loops in bare.items():
            loops.append(loop(engine, images[:batch], options.turn_seconds / len(BATCHES)))
        before = seconds_by_role(system.pids)
        turns.append(
            closed_loop(lane, check, in_flight=options.in_flight, seconds=options.turn_seconds)
        )
        for role, seconds in seconds_by_role(system.pids).items():
            used[role] = used.get(role, 0.0) + seconds - before.get(role, 0.0)
    by_batch = {
        str(batch): sum(each.images for each in loops) / sum(each.seconds for each in loops)
        for batch, loops in bare.items()
    }
    return share_of(by_batch, join(turns), used, len(os.sched_getaffinity(0)))


def share_of(
    bare_by_batch: dict[str, float], answered: Answered, used: dict[str, float], cores: int
) -> Share:
    """The server's share beside the fastest bare rate.

    `used` is processor seconds by process during all of `answered`. BenchError when an answer was
    missing or wrong.
    """
    if answered.failures:
        raise BenchError(f"every request must be answered, but {answered.failures[0]}")
    images = len(answered.latencies)
    steps = sum(used.get(step, 0.0) for step in STEPS) / images
    client = answered.client_seconds / images
    cpu = {role: 1000 * seconds / images for role, seconds in sorted(used.items())}
    bare = max(bare_by_batch.values())
    return Share(
        bare=bare,
        bare_by_batch=bare_by_batch,
        saturated=answered.images_per_second,
        cores=cores,
        cpu_ms=cpu | {"client": 1000 * client},
        reachable=1 / (1 / bare + steps / cores),
        with_client=1 / (1 / bare + (steps + client) / cores),
    )


def measure_paced(system: System, rate: float, offsets: Sequence[float]) -> dict[str, Any]:
    """Latencies over gRPC of images sent at `offsets`, in seconds, and of the ideal server."""
    say(f"{len(offsets)} images, {rate:.1f} a second ...")
    lane = system.lanes["grpc"]
    answered = open_loop(lane, checker(ask_once(lane)), offsets)
    ideal = ideal_latencies(offsets, LOAD / rate)
    return {
        "rate": rate,
        "sent": len(offsets),
        "failures": list(answered.failures[:3]),
        "failed": len(answered.failures),
        **{f"p{percent}_ms": answered.milliseconds(percent) for percent in (50, 95, 99)},
        "ratio": answered.milliseconds(99) / answered.milliseconds(50),
        "ideal_p50_ms": 1000 * percentile(ideal, 50),
        "ideal_p99_ms": 1000 * percentile(ideal, 99),
        "ideal_ratio": percentile(ideal, 99) / percentile(ideal, 50),
    }


def share_text(content: dict[str, Any]) -> str:
    share = content["share"]
    rates = share["bare_by_batch"].items()
    by_batch = ", ".join(f"batch {batch}: {rate:.2f}" for batch, rate in rates)
    parts = ", ".join(f"{role} {value:.1f}" for role, value in share["cpu_ms"].items() if value)
    return "\n".join(
        [
            machine_line(content["machine"]),
            "",
            f"bare engine in a loop           {share['bare']:8.2f} images/s ({by_batch})",
            f"reachable with the steps' time  {share['reachable']:8.2f}",
            f"and with the client's           {share['with_client']:8.2f}",
            f"ensemble at saturation, gRPC    {share['saturated']:8.2f}: {share['share']:.1%} of "
            f"what is reachable (goal: {SHARE_GOAL:.0%}, {verdict(share['share'] >= SHARE_GOAL)})",
            f"processor ms an image: {parts}",
            *(_paced_text(name, paced) for name, paced in content["paced"].items()),
        ]
    )


def _paced_text(name: str, paced: dict[str, Any]) -> str:
    return "\n".join(
        [
            "",
            f"{paced['rate']:.1f} images a second ({LOAD:.0%}), {name} arrivals, "
            f"{paced['sent']} sent, {paced['failed']} failed:",
            f"  p50 {paced['p50_ms']:.0f} ms, p95 {paced['p95_ms']:.0f}, p99 "
            f"{paced['p99_ms']:.0f}: {paced['ratio']:.1f} times the median (goal: under "
            f"{RATIO_GOAL:g}, {verdict(paced['ratio'] < RATIO_GOAL)})",
            f"  an ideal server with these arrivals: p50 {paced['ideal_p50_ms']:.0f} ms, p99 "
            f"{paced['ideal_p99_ms']:.0f}: {paced['ideal_ratio']:.1f} times",
        ]
    )


def verdict(is_met: bool) -> str:
    return "met" if is_met else "MISSED"
