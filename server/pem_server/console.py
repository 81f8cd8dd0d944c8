"""What the commands print for people, and the option names of 0.1 that they still accept."""

import contextlib
import sys
from collections.abc import Mapping, Sequence


def log(text: str) -> None:
    """Print to stderr at once; stdout is for results."""
    with contextlib.suppress(OSError):  # a terminal that was closed must not end a server
        print(text, file=sys.stderr, flush=True)


def accept_old_options(arguments: Sequence[str], renamed: Mapping[str, str]) -> list[str]:
    """`arguments` with each option of 0.1 under its present name, after a warning.

    `renamed` maps old to new names: {"--picture": "--image"}.
    """
    accepted = []
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if name in renamed:
            log(f"warning: {name} is now {renamed[name]}; 0.3 will not accept the old name")
            argument = renamed[name] + equals + value
        accepted.append(argument)
    return accepted
