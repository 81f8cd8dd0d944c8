"""Measure the served steps: a real tritonserver whose network costs nothing, under load.

    ./run bench steps                                    # less than a minute
    ./run bench steps --against OTHER/model_repository   # beside another commit's, in turns

Images a second and the processor time of an image in each process. The network answers from a
record; the client is one more process on the same cores, and its own time is listed apart.
"""

import argparse
from pathlib import Path

from pem_server.checkout import MODEL_REPOSITORY

from .bench_report import publish, steps_text
from .end_to_end import add_common_arguments, compare_systems, require_positive
from .systems import no_network


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--against", type=Path, metavar="FOLDER", help="another model repository")
    parser.add_argument("--in-flight", type=int, default=8, help="requests (default: 8)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of a server (default: 3)")
    parser.add_argument("--turn-seconds", type=float, default=8, help="of a turn (default: 8)")
    add_common_arguments(parser)


def run(options: argparse.Namespace) -> None:
    require_positive(options.in_flight, options.rounds, options.turn_seconds)
    chosen = [no_network("this repository", MODEL_REPOSITORY)]
    if options.against:
        chosen.insert(0, no_network(str(options.against), options.against))
    content = compare_systems(chosen, [options.in_flight], options)
    publish(options.output, "steps", content, steps_text(content))
