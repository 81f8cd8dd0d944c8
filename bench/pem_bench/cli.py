"""The verbs of `./run bench`. A verb is a module with `add_arguments(parser)` and `run(options)`.

Only the module of the verb asked for is imported, so that one can do without another's packages.
"""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

EVERYTHING = "everything"
VERBS = {  # module, what it does
    EVERYTHING: (
        "pem_bench.everything",
        "all but peers and sweep, in one report; also without a verb",
    ),
    "engine": ("pem_bench.engine", "the network alone, in every form this machine can run"),
    "steps": ("pem_bench.steps", "the steps around the network"),
    "end-to-end": ("pem_bench.end_to_end", "this repository and its peers, served and asked"),
    "share": ("pem_bench.share", "what the server takes beside the network"),
    "memory": ("pem_bench.memory", "what the served system holds, and whether it grows"),
    "peers": ("pem_bench.peers", "the peers' own settings, each tried out"),
    "sweep": ("pem_bench.sweep", "the configuration's numbers, each tried out"),
}


class BenchError(Exception):
    """What the user can mend; the message is one sentence."""


def main(argv: Sequence[str] | None = None) -> int:
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] in (["-h"], ["--help"]):
        print(usage())
        return 0
    if not arguments or arguments[0].startswith("-"):
        arguments.insert(0, EVERYTHING)
    verb, *rest = arguments
    if verb not in verbs():
        print(f"bench: there is no {verb}\n{usage()}", file=sys.stderr)
        return 2
    module = import_module(VERBS[verb][0])
    try:
        module.run(parser_of(verb, module).parse_args(rest))
    except (BenchError, OSError) as error:
        print(f"bench {verb}: {error}", file=sys.stderr)
        return 1
    return 0


def parser_of(verb: str, module: ModuleType) -> argparse.ArgumentParser:
    """The options of a verb."""
    parser = argparse.ArgumentParser(
        prog=f"run bench {verb}",
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(parser)
    return parser


def verbs() -> dict[str, str]:
    """The summary of each verb whose module is there."""
    return {verb: summary for verb, (module, summary) in VERBS.items() if find_spec(module)}


def usage() -> str:
    lines = [f"  ./run bench {verb:10} {summary}" for verb, summary in verbs().items()]
    return "\n".join(["usage: ./run bench [WHAT] [OPTIONS]", *lines])
