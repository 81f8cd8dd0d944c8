"""What every command that serves can be told, and how it reacts to signals."""

import argparse
import signal
from pathlib import Path

from pem_server.checkout import MODEL_REPOSITORY
from pem_server.stub_network import Cost, parse_cost

INTERRUPTED = 130
RENAMED_OPTIONS = {"--stand-in": "--stub-network"}


def interrupt_on_signals() -> None:
    """Let Ctrl-C, SIGTERM and SIGHUP raise KeyboardInterrupt."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup stays in force
            signal.signal(number, signal.default_int_handler)


def add_serve_options(parser: argparse.ArgumentParser) -> None:
    """What every way to serve can be told."""
    for endpoint, default in (("http", 8000), ("grpc", 8001), ("metrics", 8002)):
        parser.add_argument(
            f"--{endpoint}-port",
            type=_port,
            default=default,
            metavar="PORT",
            help="default %(default)s; 0 takes a free one",
        )
    add_repository_option(parser)
    network = parser.add_mutually_exclusive_group()
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
    parser.add_argument("--verbose", action="store_true", help="show the server's whole log")


def add_repository_option(parser: argparse.ArgumentParser) -> None:
    """Which repository is served."""
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
