"""The commands of `./run bench`: modules with `add_arguments(parser)` and `run(options)`.

Only the chosen command's module is imported, so that it can do without another's packages.
"""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType

from pem_server.console import accept_old_options, log

ALL = "all"
COMMANDS = {  # module, summary
    ALL: ("pem_bench.run_all", "everything below in one report; also without a command"),
    "engine": ("pem_bench.engine", "the network alone, on every backend of this machine"),
    "steps": ("pem_bench.steps_only", "the served steps around a network that costs nothing"),
    "end-to-end": ("pem_bench.end_to_end", "this repository and its peers, served under load"),
    "overhead": ("pem_bench.server_overhead", "what serving costs beside the bare engine; p99"),
    "memory": ("pem_bench.memory", "memory of the served system: idle, under load, growth"),
}
OLD_COMMANDS = {  # of 0.1, and what they are now
    "everything": [ALL],
    "share": ["overhead"],
    "peers": ["end-to-end", "--only", "fastapi-onnxruntime", "litserve-onnxruntime"],
}
OLD_OPTIONS = {"--picture": "--image"}


class BenchError(Exception):
    """The user can fix this; the message is one sentence."""


def main(argv: Sequence[str] | None = None) -> int:
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] in (["-h"], ["--help"]):
        print(usage())
        return 0
    if not arguments or arguments[0].startswith("-"):
        arguments.insert(0, ALL)
    command, *rest = current(accept_old_options(arguments, OLD_OPTIONS))
    if command not in COMMANDS:
        log(f"bench: unknown command {command}\n{usage()}")
        return 2
    module = import_module(COMMANDS[command][0])
    try:
        module.run(parser_of(command, module).parse_args(rest))
    except (BenchError, OSError) as error:
        log(f"bench {command}: {error}")
        return 1
    return 0


def current(arguments: list[str]) -> list[str]:
    """The arguments with a command of 0.1 replaced, after a warning."""
    old, rest = arguments[0], arguments[1:]
    if old not in OLD_COMMANDS:
        return arguments
    new = OLD_COMMANDS[old]
    log(f"warning: bench {old} is now bench {' '.join(new)}; 0.3 will not accept the old name")
    return [*new, *rest]


def parser_of(command: str, module: ModuleType) -> argparse.ArgumentParser:
    """The options of a command."""
    parser = argparse.ArgumentParser(
        prog=f"run bench {command}",
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(parser)
    return parser


def usage() -> str:
    lines = [f"  ./run bench {command:10} {summary}" for command, (_, summary) in COMMANDS.items()]
    return "\n".join(["usage: ./run bench [COMMAND] [OPTIONS]", *lines])
