"""Access settings of a gateway (keys, TLS, limits), and the command line options for them."""

import argparse
import ipaddress
from dataclasses import dataclass, field
from pathlib import Path

from .bounded_protocol import Bounds
from .byte_budget import DEFAULT_BYTES, MEGABYTE
from .client_limits import NO_LIMITS, Limits


@dataclass(frozen=True, kw_only=True)
class GuardSettings:
    """Keys, TLS and limits. The defaults are those of a loopback listener."""

    api_keys: Path | None = None
    tls_cert: Path | None = None  # PEM files, the certificate with its chain
    tls_key: Path | None = None
    limits: Limits = NO_LIMITS
    body_bytes: int = DEFAULT_BYTES
    bounds: Bounds = field(default_factory=Bounds)
    most_connections: int = 4000


def add_guard_options(parser: argparse.ArgumentParser) -> None:
    """The options that `guard_from_options` reads."""
    group = parser.add_argument_group("access and limits")
    group.add_argument(
        "--bind", default="127.0.0.1", metavar="ADDRESS", help="where to listen (%(default)s)"
    )
    group.add_argument(
        "--api-keys", type=Path, metavar="FILE", help="who may ask: NAME:KEY or NAME:sha256:HEX"
    )
    group.add_argument("--tls-cert", type=Path, metavar="FILE", help="certificate, PEM")
    group.add_argument("--tls-key", type=Path, metavar="FILE", help="its key, PEM")
    group.add_argument(
        "--allow-open",
        action="store_true",
        help="listen beyond this machine without API keys and TLS",
    )
    usual = Limits()
    for option, number, what in (
        ("--client-rate", usual.per_second, "requests a second of each client"),
        ("--client-requests", usual.at_a_time, "requests of each client at a time"),
        ("--client-connections", usual.connections, "HTTP connections of each address"),
    ):
        group.add_argument(
            option,
            type=type(number),
            metavar="N",
            help=f"{what}, 0 for any number ({number:g}; on loopback 0)",
        )
    group.add_argument(
        "--body-budget",
        type=int,
        default=DEFAULT_BYTES // MEGABYTE,
        metavar="MB",
        help="of request bodies in memory (%(default)s)",
    )


def guard_from_options(
    parser: argparse.ArgumentParser, arguments: argparse.Namespace
) -> GuardSettings:
    """The settings; ends with 2 and a sentence where the options cannot go together."""
    is_local = is_loopback(arguments.bind)
    if bool(arguments.tls_cert) != bool(arguments.tls_key):
        parser.error("--tls-cert and --tls-key belong together; give both")
    is_open = not (arguments.api_keys or arguments.tls_cert)
    if not is_local and is_open and not arguments.allow_open:
        parser.error(
            f"--bind {arguments.bind} lets other machines ask without API keys and without TLS; "
            "add --api-keys FILE or --tls-cert and --tls-key, or say --allow-open"
        )
    if arguments.body_budget < 1:
        parser.error(f"--body-budget must be 1 MB or more, got {arguments.body_budget}")
    usual = NO_LIMITS if is_local else Limits()
    numbers = [
        default if value is None else value
        for value, default in (
            (arguments.client_rate, usual.per_second),
            (arguments.client_requests, usual.at_a_time),
            (arguments.client_connections, usual.connections),
        )
    ]
    if not all(0 <= number < 1e9 for number in numbers):
        parser.error("--client-rate, --client-requests, --client-connections must be 0 or more")
    return GuardSettings(
        api_keys=arguments.api_keys,
        tls_cert=arguments.tls_cert,
        tls_key=arguments.tls_key,
        limits=Limits(float(numbers[0]), int(numbers[1]), int(numbers[2])),
        body_bytes=arguments.body_budget * MEGABYTE,
    )


def is_loopback(bind: str) -> bool:
    """Whether only this machine reaches an address."""
    if bind == "localhost":
        return True
    try:
        return ipaddress.ip_address(bind.strip("[]")).is_loopback
    except ValueError:
        return False
