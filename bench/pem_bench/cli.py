"""The verbs of `./run bench`. A verb is a module with `add_arguments(parser)` and `run(options)`.

Only the module of the verb asked for is imported, so that one can do without another's packages.
"""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

VERBS = {  # module, what it does
    "engine": ("pem_bench.engine", "the network alone, in every form this machine can run"),
}


class BenchError(Exception):
    """What the user can mend; the message is one sentence."""


def main(argv: Sequence[str] | None = None) -> int:
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        return 0 if arguments else 2
    verb, *rest = arguments
    if verb not in VERBS:
        print(f"bench: there is no {verb}\n{usage()}", file=sys.stderr)
        return 2
    module = import_module(VERBS[verb][0])
    parser = argparse.ArgumentParser(
        prog=f"run bench {verb}",
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(parser)
    try:
        module.run(parser.parse_args(rest))
    except (BenchError, OSError) as error:
        print(f"bench {verb}: {error}", file=sys.stderr)
        return 1
    return 0


def usage() -> str:
    lines = [f"  ./run bench {verb:10} {summary}" for verb, (_, summary) in VERBS.items()]
    return "\n".join(["usage: ./run bench WHAT [OPTIONS]", *lines])
