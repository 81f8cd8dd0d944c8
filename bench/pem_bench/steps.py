"""Measure the steps around the network: each choice side by side, then all of them, served.

    ./run bench steps                                    # about two minutes
    ./run bench steps --against OTHER/model_repository   # beside another commit's, in turns

First the CPU time of each stage on one image, and on the same enlarged threefold. Then a real
tritonserver whose network does nothing but answer from a record, under load: images a second, and
the CPU time of an image in each process. The load comes from one more process on the same cores,
whose own time stands apart.
"""

import argparse
import copy
import io
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from pem_server.stub_network import ANSWER
from pemexport import contract

from .cli import BenchError
from .machine import busy_warning, describe_machine, installed
from .report import write_json
from .served import Load, measure_served
from .step_choices import OPTIONAL, Recorded, difference, optional_packages, stages
from .step_report import as_json, choices_text, served_text
from .timing import Spread, spread, take_turns

FOLDER = contract.ROOT / "artifacts" / "bench"
REPOSITORY = contract.ROOT / "model_repository"
SERVES = ("pillow", "numpy", "nvidia-pytriton")
ENLARGED = 3
JPEG_QUALITY = 90  # of the enlarged image
ROUNDS = 3
TURN_SECONDS = 0.1  # of one choice


@dataclass(frozen=True)
class Measured:
    """One choice of one stage on one image."""

    image: str  # its size
    stage: str
    choice: str
    served: bool
    cpu: Spread  # seconds of one call
    bytes: int | None  # of all files that it makes
    difference: str  # from the served choice's result


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--image", type=Path, default=contract.ROOT / "docs" / "street.jpg", help="what is sent"
    )
    parser.add_argument(
        "--against", type=Path, metavar="FOLDER", help="another model repository, served in turns"
    )
    parser.add_argument("--in-flight", type=int, default=8, help="questions (default: 8)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of a server (default: 3)")
    parser.add_argument("--turn-seconds", type=float, default=8, help="of a server (default: 8)")
    parser.add_argument("--only", choices=("choices", "served"), help="one of the two")
    parser.add_argument(
        "--output", type=Path, default=FOLDER, help="folder of the JSON (default: %(default)s)"
    )


def run(options: argparse.Namespace) -> None:
    if min(options.in_flight, options.rounds) < 1:
        raise BenchError("--in-flight and --rounds must be 1 or more")
    machine = describe_machine()
    versions = {name: installed(name) for name in (*SERVES, *OPTIONAL.values())}
    choices, served = [], []
    if options.only != "served":
        image = options.image.read_bytes()
        for encoded in (image, enlarged(image, ENLARGED)):
            choices += measure_choices(encoded)
        print(choices_text(machine, versions, choices, optional_packages()[1]))
    if options.only != "choices":
        forms = {"this repository": REPOSITORY}
        if options.against:
            forms = {str(options.against): options.against, **forms}
        load = Load(options.image, options.in_flight, options.rounds, options.turn_seconds)
        served = measure_served(forms, load)
        print(served_text(machine, load, served))
    if warning := busy_warning(machine):
        print(warning)
    content = as_json(machine, versions, choices, served)
    print(write_json(options.output / "steps.json", content))


def measure_choices(encoded: bytes) -> list[Measured]:
    """CPU time and result of every choice of every stage, on one encoded image."""
    with np.load(ANSWER) as answer:
        recorded = Recorded(answer["class_ids"], answer["scores"], answer["masks"])
    with Image.open(io.BytesIO(encoded)) as image:
        size = f"{image.width}x{image.height}"
    measured = []
    for stage in stages(encoded, recorded, REPOSITORY):
        seconds = take_turns(
            stage.calls, rounds=ROUNDS, turn_seconds=TURN_SECONDS, clock=time.process_time
        )
        # Deep copies: choices may write into one and the same array.
        results = {name: copy.deepcopy(call()) for name, call in stage.calls.items()}
        served = next(iter(results))
        measured += [
            Measured(
                image=size,
                stage=stage.name,
                choice=name,
                served=name == served,
                cpu=spread(seconds[name]),
                bytes=size_of(result),
                difference=difference(stage.same(result), stage.same(results[served])),
            )
            for name, result in results.items()
        ]
    return measured


def size_of(result: object) -> int | None:
    """Bytes of a file or of several; None of anything else."""
    files = result if isinstance(result, list) else [result]
    return sum(map(len, files)) if all(isinstance(file, bytes) for file in files) else None


def enlarged(encoded: bytes, times: int) -> bytes:
    """The image so many times as wide and high, as a JPEG."""
    with Image.open(io.BytesIO(encoded)) as image:
        size = (image.width * times, image.height * times)
        larger = image.convert("RGB").resize(size, Image.Resampling.BICUBIC)
    file = io.BytesIO()
    larger.save(file, "JPEG", quality=JPEG_QUALITY)
    return file.getvalue()
