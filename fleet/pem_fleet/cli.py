"""The commands `simulate` and `fleet-test` of `./run`: options in, exit code out.

Exit codes: 0 done, and what was checked holds; 1 it does not hold, with a sentence; 2 wrong
options; 130 interrupted.
"""

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from pem_server.checkout import MODEL_REPOSITORY, ROOT
from pem_server.console import accept_old_options, log

OUTPUT = ROOT / "artifacts"
OLD_OPTIONS = {"--quicken": "--time-scale"}
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command."""
    arguments = sys.argv[1:] if argv is None else argv
    options = _parser().parse_args(accept_old_options(arguments, OLD_OPTIONS))
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup stays in force
            signal.signal(number, signal.default_int_handler)  # as Ctrl-C
    try:
        if options.command == "simulate":
            from pem_fleet.queueing.simulate import simulate

            return simulate(options)
        from pem_fleet.rehearsal.rehearsal import fleet_test  # late: its imports take a moment

        return fleet_test(options)
    except KeyboardInterrupt:
        return INTERRUPTED
    except (ValueError, OSError, RuntimeError) as error:
        log(str(error))
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="./run", description="How many servers a load needs.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_simulate(commands.add_parser("simulate", help="simulate what one server can take"))
    _add_fleet_test(
        commands.add_parser("fleet-test", help="run the autoscaling loop for real on this machine")
    )
    return parser


def _add_simulate(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Simulate one server: its capacity within a latency goal, and latency over load. With "
        "--check, compare the simulated knee with one that a load test measured."
    )
    _add_number(parser, "goal", 250.0, "MS", "latency")
    _add_number(parser, "percentile", 99.0, "P", "percent of the images that must meet the goal")
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
        help="milliseconds a batch and an image of one step; default: assumptions for a T4",
    )
    parser.add_argument(
        "--check",
        type=Path,
        metavar="RESULT",
        help="report.json of ./run loadtest --shape ladder; exit code 1 when they differ",
    )
    _add_path(parser, "repository", MODEL_REPOSITORY, "the model repository")
    _add_path(parser, "output", OUTPUT / "simulation", "where the report goes")


def _add_fleet_test(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Real servers behind a real HAProxy, scraped by a real Prometheus; the ScaledObject's "
        "query and the autoscaler's formula decide how many run, while locust raises and lowers "
        "the load. "
        "Exit code 0: they followed, latency recovered, no request was lost."
    )
    scaled = "divides rate windows, syncs, stabilization, policies and the drain's settling"
    _add_number(parser, "time-scale", 10.0, "FACTOR", scaled)
    parser.add_argument(
        "--cost",
        type=_pair,
        default=(60.0, 90.0),
        metavar="FIXED:EACH",
        help="of the stub network, milliseconds a batch and an image; default 60:90",
    )
    capacity = "images a second and server; 0: simulated from --cost"
    _add_number(parser, "capacity", 0.0, "RATE", capacity)
    _add_number(parser, "low", 0.4, "SHARE", "load before and after, in thresholds of a server")
    _add_number(parser, "high", 2.4, "SHARE", "load between, in thresholds of a server")
    _add_number(parser, "seconds", 190.0, "S", "of load: 15%% low, 30%% high, 55%% low again")
    _add_number(parser, "goal", 2000.0, "MS", "of p95: sets the capacity, and when it recovered")
    parser.add_argument("--most", type=int, default=4, help="servers; default %(default)s")
    parser.add_argument("--seed", type=int, default=1, help="default %(default)s")
    overlay = ROOT / "deploy" / "overlays" / "cpu"
    _add_path(parser, "repository", MODEL_REPOSITORY, "the model repository")
    _add_path(parser, "manifests", overlay, "a kustomization, or its rendered file")
    _add_path(parser, "output", OUTPUT / "fleet-test", "where the report goes")


def _add_number(
    parser: argparse.ArgumentParser, name: str, default: float, metavar: str, meaning: str
) -> None:
    shown = f"{meaning}; default %(default)g"
    parser.add_argument(f"--{name}", type=float, default=default, metavar=metavar, help=shown)


def _add_path(parser: argparse.ArgumentParser, name: str, default: Path, meaning: str) -> None:
    shown = default.relative_to(ROOT)
    parser.add_argument(
        f"--{name}", type=Path, default=default, metavar="PATH", help=f"{meaning}; default {shown}"
    )


def _pair(text: str) -> tuple[float, float]:
    fixed, _, each = text.partition(":")
    if float(fixed) < 0 or float(each) < 0 or float(fixed) + float(each) == 0:
        raise argparse.ArgumentTypeError(f"expected FIXED:EACH milliseconds, got {text!r}")
    return float(fixed), float(each)


def _cost(text: str) -> tuple[str, float, float]:
    name, _, pair = text.partition("=")
    return name, *_pair(pair)
