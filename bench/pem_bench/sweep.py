"""Try other numbers in the configurations, each served and measured: are the shipped ones the best?

    ./run bench sweep                                   # the usual candidates; about six minutes
    ./run bench sweep --rounds 3                        # the same with less noise
    ./run bench sweep --try pem_network.instances=2,pem_network.threads=1

Each candidate is a temporary copy of the repository with the changes named, served alone: images a
second at saturation, then p50 and p99 of Poisson arrivals at 80% of the SHIPPED rate, so that all
have the same arrivals. A change is called better when it gains more than the shipped configuration
itself differed between its own turns.

MODEL.KEY is delay_us (which makes the model batch, if it did not), instances, max_batch_size, or
the name of a parameter.
"""

import argparse
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .agreement import checker
from .cli import BenchError
from .configuration import Changes, altered_copy, parse_changes, value_of
from .end_to_end import WARM_UP, add_common_arguments, say
from .load import ask_once, closed_loop, open_loop
from .machine import busy_warning, describe_machine, machine_line
from .percentiles import poisson
from .report import write_json
from .systems import REPOSITORY, start_ours

SHIPPED = "as shipped"
CANDIDATES = (
    "pem_network.delay_us=0",
    "pem_network.delay_us=20000",
    "pem_network.threads=1",
    "pem_network.instances=2,pem_network.threads=1",
    "pem_network.delay_us=0,pem_network.max_batch_size=2",
    "pem_network.precision=f32",
    "pem_network.precision=bf16",
    "pem_network.precision=int8",
    "pem_preprocess.instances=2",
    "pem_postprocess.instances=2",
)
LOAD = 0.8
ONE_ROUND = (
    "One round: equal configurations were seen to differ by a tenth. Repeat what looks better with "
    "--try and --rounds 3."
)
LEAST_GAIN = 0.03  # whatever the noise: less is not worth a change


@dataclass(frozen=True)
class Tried:
    """One candidate: the median of its turns, and how far they were apart."""

    name: str
    images_per_second: float
    lowest: float
    highest: float
    p50_ms: float
    p99_ms: float
    failures: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--try", nargs="+", default=CANDIDATES, dest="candidates", metavar="CHANGES",
        help="MODEL.KEY=VALUE, several with commas between",
    )  # fmt: skip
    parser.add_argument("--rounds", type=int, default=1, help="turns of each (default: 1)")
    parser.add_argument("--turn-seconds", type=float, default=8, help="saturated (default: 8)")
    parser.add_argument("--open-seconds", type=float, default=15, help="at 80%% (default: 15)")
    parser.add_argument("--in-flight", type=int, default=16, help="at saturation (default: 16)")
    add_common_arguments(parser)


def run(options: argparse.Namespace) -> None:
    if min(options.rounds, options.in_flight, options.turn_seconds, options.open_seconds) <= 0:
        raise BenchError("all numbers must be above 0")
    machine = describe_machine()
    wanted = {text: parse_changes(text) for text in options.candidates}
    candidates: dict[str, Changes] = {SHIPPED: {}}
    candidates |= {n: changes for n, changes in wanted.items() if not is_shipped(changes)}
    turns, refused = measure_all(candidates, options)
    tried = [summary(name, turns[name]) for name in candidates if name not in refused]
    content: dict[str, object] = {
        "machine": machine,
        "tried": [asdict(each) for each in tried],
        "refused": refused,
        "better": [each.name for each in better(tried)],
    }
    print(sweep_text(machine, tried))
    if options.rounds == 1:
        print(ONE_ROUND)
    for name, reason in refused.items():
        print(f"Not tried: {name}: {reason}")
    if warning := busy_warning(machine):
        print(warning)
    print(write_json(options.output / "sweep.json", content))


def is_shipped(changes: Changes) -> bool:
    """Whether the repository already has all these values."""
    return all(value_of(REPOSITORY, name) == value for name, value in changes.items())


def measure_all(
    candidates: Mapping[str, Changes], options: argparse.Namespace
) -> tuple[dict[str, list[dict[str, float]]], dict[str, str]]:
    """Each candidate once a round; the shipped one first and last, which shows the drift.

    Second: why a candidate cannot be served here, by name.
    """
    turns: dict[str, list[dict[str, float]]] = {name: [] for name in candidates}
    refused: dict[str, str] = {}
    image = options.image.read_bytes()
    rate = 0.0
    for number in range(options.rounds):
        names = [*candidates] if number % 2 == 0 else [SHIPPED, *reversed(list(candidates)[1:])]
        for name in [*names, SHIPPED]:
            say(f"round {number + 1} of {options.rounds}: {name} ...")
            try:
                turn = measure(candidates[name], image, rate, options)
            except BenchError as error:
                if name == SHIPPED:
                    raise
                refused[name] = str(error)
                continue
            rate = rate or turn["rate"]
            turns[name].append(turn)
    return turns, refused


def measure(
    changes: Changes, image: bytes, rate: float, options: argparse.Namespace
) -> dict[str, float]:
    """Serve one copy: saturated, then at `rate` images a second; 0 is 80% of its own."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pem-sweep-")))
        repository = altered_copy(REPOSITORY, folder / "model_repository", changes)
        system = start_ours(stack, image, repository)
        lane = system.lanes["grpc"]
        check = checker(ask_once(lane))
        closed_loop(lane, check, in_flight=options.in_flight, requests=WARM_UP)
        full = closed_loop(lane, check, in_flight=options.in_flight, seconds=options.turn_seconds)
        rate = rate or LOAD * full.images_per_second
        paced = open_loop(lane, check, poisson(rate, options.open_seconds))
    return {
        "images_per_second": full.images_per_second,
        "rate": rate,
        "p50_ms": paced.milliseconds(50),
        "p99_ms": paced.milliseconds(99),
        "failures": len(full.failures) + len(paced.failures),
    }


def summary(name: str, turns: Sequence[Mapping[str, float]]) -> Tried:
    speeds = [turn["images_per_second"] for turn in turns]
    return Tried(
        name=name,
        images_per_second=statistics.median(speeds),
        lowest=min(speeds),
        highest=max(speeds),
        p50_ms=statistics.median(turn["p50_ms"] for turn in turns),
        p99_ms=statistics.median(turn["p99_ms"] for turn in turns),
        failures=int(sum(turn["failures"] for turn in turns)),
    )


def better(tried: Sequence[Tried]) -> list[Tried]:
    """Candidates that answer more than the shipped one ever did, by the least gain, none failing.

    Best first. A p99 that is worse by the least gain does not count as better.
    """
    shipped = next(each for each in tried if each.name == SHIPPED)
    found = [
        each
        for each in tried
        if each.images_per_second > shipped.highest
        and each.images_per_second > shipped.images_per_second * (1 + LEAST_GAIN)
        and each.p99_ms < shipped.p99_ms * (1 + LEAST_GAIN)
        and not each.failures
    ]
    return sorted(found, key=lambda each: -each.images_per_second)


def sweep_text(machine: dict[str, Any], tried: Sequence[Tried]) -> str:
    width = max(len(each.name) for each in tried)
    lines = [
        machine_line(machine),
        "",
        f"{'':{width}}  images/s  (lowest to highest)  p50 ms  p99 ms  failed",
    ]
    for each in sorted(tried, key=lambda each: -each.images_per_second):
        lines.append(
            f"{each.name:{width}}  {each.images_per_second:8.2f}  "
            f"({each.lowest:6.2f} to {each.highest:7.2f})  {each.p50_ms:6.0f}  "
            f"{each.p99_ms:6.0f}  {each.failures:6}"
        )
    found = better(tried)
    if found:
        lines.append(f"\nThe shipped configuration is not the best: {found[0].name} is better.")
    else:
        lines.append("\nNo candidate is better than the shipped configuration, beyond its noise.")
    return "\n".join(lines)
