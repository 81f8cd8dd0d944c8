"""The verbs `simulate` and `fleet-test` of `./run`: options in, exit code out.

Exit codes: 0 done, and what was asserted holds; 1 it does not hold, with a sentence; 2 wrong
options; 130 interrupted.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]  # fleet/ is installed from there, editable
REPOSITORY = CHECKOUT / "model_repository"
MANIFESTS = CHECKOUT / "deploy" / "overlays"
OUTPUT = CHECKOUT / "artifacts"
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb."""
    options = _parser().parse_args(argv)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup stays in force
            signal.signal(number, signal.default_int_handler)  # as Ctrl-C
    try:
        if options.verb == "simulate":
            from pem_fleet.simulate import simulate  # late: matplotlib and simpy take a moment

            return simulate(options)
        from pem_fleet.live import fleet_test

        return fleet_test(options)
    except KeyboardInterrupt:
        return INTERRUPTED
    except (ValueError, OSError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="./run", description="How many servers a load needs.")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    _add_simulate(verbs.add_parser("simulate", help="size a fleet by simulation"))
    _add_fleet_test(
        verbs.add_parser("fleet-test", help="run the autoscaling loop for real on this machine")
    )
    return parser


def _add_simulate(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Simulate arrivals, batching servers, the autoscaler and the start of machines: compare "
        "signals, pick target and bounds. With --check, compare with a measurement instead."
    )
    for name, default, metavar, meaning in (
        ("goal", 250.0, "MS", "latency to meet"),
        ("percentile", 99.0, "P", "share of images that must meet it at the capacity, percent"),
        ("allowed", 0.5, "P", "share that may miss it over a day, percent; p99 allows twice it"),
        (
            "peak",
            10_000.0,
            "RATE",
            "images a second at the top of the highest flash crowd, large enough that rounding up "
            "to whole servers does not help",
        ),
        ("hours", 24.0, "H", "length of the day"),
        ("price", 0.53, "USD", "an hour of a machine"),
        ("machine", 240.0, "S", "until an ordered machine is there"),
        ("load", 30.0, "S", "until the server on it is ready"),
        ("warm", 0.0, "P", "machines kept warm, percent of the servers (CapacityBuffer)"),
    ):
        parser.add_argument(
            f"--{name}",
            type=float,
            default=default,
            metavar=metavar,
            help=f"{meaning}; default %(default)g",
        )
    parser.add_argument(
        "--rates",
        type=_numbers,
        default=(10.0, 100.0, 1_000.0, 10_000.0, 100_000.0),
        metavar="RATE,...",
        help="peaks of the table of sizes; default 10 to 100000",
    )
    parser.add_argument("--seed", type=int, default=0, help="default %(default)s")
    parser.add_argument(
        "--config", default="t4", metavar="NAME", help="configs/NAME.pbtxt; default %(default)s"
    )
    parser.add_argument(
        "--cost",
        type=_cost,
        action="append",
        default=[],
        metavar="STEP=FIXED:EACH",
        help="milliseconds a batch and an image of one step; default: what is assumed for a T4",
    )
    parser.add_argument(
        "--check",
        type=Path,
        metavar="RESULT",
        help="report.json of a load test (ladder) or of a fleet test; exit code 1 when it differs",
    )
    _add_places(parser, MANIFESTS / "gke-t4", OUTPUT / "simulation")


def _add_fleet_test(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Real servers behind a real HAProxy, scraped by a real Prometheus; the ScaledObject's "
        "query and the autoscaler's formula decide how many run, while locust raises and lowers "
        "the load. "
        "Exit code 0: they followed, latency recovered, no request was lost."
    )
    parser.add_argument(
        "--quicken",
        type=float,
        default=10.0,
        metavar="FACTOR",
        help="divides the loop's times: rate windows, syncs, stabilisation, policies, settling of "
        "the drain; default %(default)g",
    )
    parser.add_argument(
        "--cost",
        type=_pair,
        default=(60.0, 90.0),
        metavar="FIXED:EACH",
        help="of the stand-in network, milliseconds a batch and an image; default 60:90",
    )
    for name, default, metavar, meaning in (
        ("capacity", 0.0, "RATE", "images a second and server; default: simulated from --cost"),
        ("low", 0.4, "SHARE", "load before and after, in thresholds of one server"),
        ("high", 2.4, "SHARE", "load between, in thresholds of one server"),
        ("seconds", 190.0, "S", "of load: 15%% low, 30%% high, 55%% low again"),
        ("goal", 2000.0, "MS", "of p95: decides the capacity, and what counts as recovered"),
    ):
        parser.add_argument(
            f"--{name}",
            type=float,
            default=default,
            metavar=metavar,
            help=f"{meaning}; default %(default)g" if default else meaning,
        )
    parser.add_argument("--most", type=int, default=4, help="servers; default %(default)s")
    parser.add_argument("--seed", type=int, default=1, help="default %(default)s")
    _add_places(parser, MANIFESTS / "cpu", OUTPUT / "fleet-test")


def _add_places(parser: argparse.ArgumentParser, manifests: Path, output: Path) -> None:
    for name, default, meaning in (
        ("repository", REPOSITORY, "the model repository"),
        ("manifests", manifests, "a kustomization, or its rendered file"),
        ("output", output, "where the report goes"),
    ):
        parser.add_argument(
            f"--{name}",
            type=Path,
            default=default,
            metavar="PATH",
            help=f"{meaning}; default {default.relative_to(CHECKOUT)}",
        )


def _numbers(text: str) -> tuple[float, ...]:
    numbers = tuple(float(part) for part in text.split(","))
    if min(numbers) <= 0:
        raise argparse.ArgumentTypeError(f"rates are above 0, not {text!r}")
    return numbers


def _pair(text: str) -> tuple[float, float]:
    fixed, _, each = text.partition(":")
    if float(fixed) < 0 or float(each) < 0 or float(fixed) + float(each) == 0:
        raise argparse.ArgumentTypeError(f"times are FIXED:EACH milliseconds, not {text!r}")
    return float(fixed), float(each)


def _cost(text: str) -> tuple[str, float, float]:
    name, _, pair = text.partition("=")
    return name, *_pair(pair)
