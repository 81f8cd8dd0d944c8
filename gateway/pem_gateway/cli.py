"""The commands `serve`, `demo` and `chaos` of `./run`: options in, exit code out.

Exit codes: 0 done, or served until Ctrl-C; 1 after one sentence per problem; 2 for wrong options;
130 when a demo was interrupted or a stop was cut short by a second Ctrl-C.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from pem_server.checkout import ROOT
from pem_server.console import accept_old_options
from pem_server.serve_options import (
    INTERRUPTED,
    RENAMED_OPTIONS,
    add_repository_option,
    add_serve_options,
    interrupt_on_signals,
)

from .guard_settings import add_guard_options, guard_from_options

EXAMPLE = ROOT / "docs" / "street.jpg"
OUTPUT = ROOT / "artifacts" / "demo"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command."""
    arguments = sys.argv[1:] if argv is None else argv
    parser = _parser()
    options = parser.parse_args(accept_old_options(arguments, RENAMED_OPTIONS))
    if options.command == "serve":
        options.guard = guard_from_options(parser, options)
    command = {"serve": _serve, "demo": _demo, "chaos": _chaos}[options.command]
    try:
        return command(options)
    except KeyboardInterrupt:
        return INTERRUPTED


def _serve(options: argparse.Namespace) -> int:
    from pem_gateway.gateway import Settings  # late: the libraries import slowly
    from pem_gateway.launch import serve

    interrupt_on_signals()
    return serve(
        Settings(
            repository=options.repository,
            http_port=options.http_port,
            grpc_port=options.grpc_port,
            metrics_port=options.metrics_port,
            config_name=options.config,
            stub_network=options.stub_network,
            verbose=options.verbose,
            settle_s=options.settle,
            limit_s=options.limit_seconds,
            bind=options.bind,
            guard=options.guard,
        )
    )


def _chaos(options: argparse.Namespace) -> int:
    from pem_gateway.chaos import chaos

    interrupt_on_signals()
    return chaos(options.only)


def _demo(options: argparse.Namespace) -> int:
    from pem_gateway.demo import demo

    interrupt_on_signals()
    return demo(
        options.image,
        repository=options.repository,
        threshold=options.threshold,
        overlay=options.output or OUTPUT / f"{options.image.stem}-overlay.png",
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="./run", description="The local server.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    serve = commands.add_parser(
        "serve",
        help="serve the model repository on this machine until Ctrl-C",
        description="Serve the model repository on 127.0.0.1: a gateway, and behind it a "
        "tritonserver that it watches and restarts. Ctrl-C answers what was accepted and stops "
        "(exit code 0), a second Ctrl-C stops at once (exit code 130).",
    )
    add_serve_options(serve)
    serve.add_argument(
        "--settle",
        type=_seconds,
        default=0.0,
        metavar="SECONDS",
        help="after SIGTERM, be not ready for so long before new requests are refused, for load "
        "balancers to notice; default %(default)g",
    )
    serve.add_argument(
        "--limit-seconds",
        type=_seconds,
        default=5.0,
        metavar="SECONDS",
        help="refuse what would be answered later than that; default %(default)g",
    )
    add_guard_options(serve)
    demo = commands.add_parser(
        "demo",
        help="start the server, segment one image, stop the server",
        description="Start the server, segment an image, print its detections and how long each "
        "step took, write the overlay and the class map, stop the server.",
    )
    demo.add_argument(
        "image",
        type=Path,
        nargs="?",
        default=EXAMPLE,
        metavar="IMAGE",
        help="JPEG, PNG, WebP or BMP; default: the street scene in docs/",
    )
    demo.add_argument(
        "--threshold",
        type=_threshold,
        default=0.5,
        metavar="T",
        help="keep detections with a higher score, 0 to 1; default %(default)s",
    )
    demo.add_argument(
        "--output",
        type=Path,
        metavar="PATH",
        help="the overlay's file, with the class map next to it; "
        "default artifacts/demo/NAME-overlay.png",
    )
    add_repository_option(demo)
    chaos = commands.add_parser(
        "chaos",
        help="break a server in every known way and print what users see",
        description="For each fault: start a gateway and a stub network on free ports, ask it four "
        "times a second, do the fault, and print what users saw. Two to three minutes.",
    )
    chaos.add_argument("--only", metavar="WORD", help="the faults with this word in their name")
    return parser


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < math.inf:  # false for NaN, too
        raise argparse.ArgumentTypeError(f"a time is a number of seconds, not {text!r}")
    return seconds


def _threshold(text: str) -> float:
    try:
        threshold = float(text)
    except ValueError:
        threshold = -1.0
    if not 0 <= threshold <= 1:  # false for NaN, too
        raise argparse.ArgumentTypeError(f"a threshold is a number from 0 to 1, not {text!r}")
    return threshold
