"""`./run loadtest`: our options are checked, then locust takes over with all of them.

Exit codes: 0 pass, 1 missed goal, 2 wrong options, 3 the run is invalid.
"""

import argparse
import os
import sys
from collections.abc import Sequence

from . import target_server
from .images import read_folder
from .options import (
    CHECKOUT,
    HOST,
    OLD_IMAGES,
    OUTPUT,
    USERS,
    add_options,
    read_settings,
    recording,
)

LOCUSTFILE = CHECKOUT / "loadtest" / "locustfile.py"
WRONG_OPTIONS = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Check options, input files and server, then become locust."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if any(argument.startswith(OLD_IMAGES) for argument in arguments):
        print(f"warning: {OLD_IMAGES} is now --images", file=sys.stderr)
    parser = _parser()
    options, _ = parser.parse_known_args(arguments)
    try:
        settings = read_settings(options)
        if settings.images:
            read_folder(settings.images)
        if settings.timestamps:
            recording(settings)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    if not options.worker and (problem := target_server.problem(options.host)):
        print(problem, file=sys.stderr)
        return WRONG_OPTIONS
    settings.output.mkdir(parents=True, exist_ok=True)
    os.execv(sys.executable, command(arguments, str(settings.output)))


def command(arguments: Sequence[str], output: str) -> list[str]:
    """The locust command; the arguments come last, so they override the defaults before them."""
    users = str(USERS)
    quiet = ["--headless", "--only-summary", "--loglevel", "WARNING"]
    pool = ["--users", users, "--spawn-rate", "100", "--html", f"{output}/locust.html"]
    locust = [sys.executable, "-m", "locust", "--locustfile", str(LOCUSTFILE)]
    return [*locust, *quiet, *pool, *arguments]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="./run loadtest",
        description="Send images to a running server with Poisson arrivals, whatever its latency, "
        f"and report how it answers. The report goes to {OUTPUT.relative_to(CHECKOUT)}/.",
        epilog="Options of locust go through: --processes 2, --master and --worker, ...",
        allow_abbrev=False,
    )
    parser.add_argument("--host", "-H", default=HOST, help="default %(default)s; or http://...")
    users = "most images in flight; default %(default)s"
    parser.add_argument("--users", "-u", type=int, default=USERS, help=users)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    add_options(parser)
    return parser
