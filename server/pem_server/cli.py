"""The commands `serve` and `demo` of `./run`: options in, exit code out.

Exit codes: 0 done, or served until Ctrl-C; 1 after one sentence per problem; 2 for wrong options;
130 when a demo was interrupted or a stop was cut short by a second Ctrl-C.
"""

import argparse
import contextlib
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from pem_server.checkout import MODEL_REPOSITORY, ROOT
from pem_server.console import accept_old_options
from pem_server.stub_network import Cost, parse_cost

EXAMPLE = ROOT / "docs" / "street.jpg"
OUTPUT = ROOT / "artifacts" / "demo"
INTERRUPTED = 130
RENAMED_OPTIONS = {"--stand-in": "--stub-network"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command."""
    arguments = sys.argv[1:] if argv is None else argv
    options = _parser().parse_args(accept_old_options(arguments, RENAMED_OPTIONS))
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup stays in force
            signal.signal(number, signal.default_int_handler)  # as Ctrl-C
    try:
        return _demo(options) if options.command == "demo" else _serve(options)
    except KeyboardInterrupt:
        return INTERRUPTED


def _serve(options: argparse.Namespace) -> int:
    from pem_server.serve import serve

    return serve(
        options.repository,
        http_port=options.http_port,
        grpc_port=options.grpc_port,
        metrics_port=options.metrics_port,
        config_name=options.config,
        stub_network=options.stub_network,
        verbose=options.verbose,
    )


def _demo(options: argparse.Namespace) -> int:
    from pem_server.demo import demo  # late: the client's libraries import slowly

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
        description="Serve the model repository on 127.0.0.1 with a real tritonserver. Ctrl-C "
        "stops it in a few seconds (exit code 0), a second Ctrl-C at once (exit code 130).",
    )
    for endpoint, default in (("http", 8000), ("grpc", 8001), ("metrics", 8002)):
        serve.add_argument(
            f"--{endpoint}-port",
            type=_port,
            default=default,
            metavar="PORT",
            help="default %(default)s; 0 takes a free one",
        )
    _add_repository(serve)
    network = serve.add_mutually_exclusive_group()
    network.add_argument(
        "--config", metavar="NAME", help="use configs/NAME.pbtxt of each model that has it"
    )
    network.add_argument(
        "--stub-network",
        type=_cost,
        metavar="FIXED:PER_IMAGE",
        help="for load tests: no network, but a recorded answer after FIXED milliseconds per batch "
        "plus PER_IMAGE per image, such as 20:5",
    )
    serve.add_argument("--verbose", action="store_true", help="show the server's whole log")
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
    _add_repository(demo)
    return parser


def _add_repository(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--repository",
        type=Path,
        default=MODEL_REPOSITORY,
        metavar="PATH",
        help="the model repository; default: model_repository/ of this checkout",
    )


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"a port is a number from 0 to 65535, not {text!r}")
    return int(text)


def _cost(text: str) -> Cost:
    try:
        return parse_cost(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _threshold(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 <= (threshold := float(text)) <= 1:  # false for NaN
            return threshold
    raise argparse.ArgumentTypeError(f"a threshold is a number from 0 to 1, not {text!r}")
