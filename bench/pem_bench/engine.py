"""Measure the network alone in every form this machine can run, and reckon what a T4 can do.

    ./run bench engine                      # minutes; wants a machine with nothing else to do
    ./run bench engine --roofline           # measures nothing: the T4's bound, part by part

A time is one call: images in the processor's memory to answers in the processor's memory, one
batch at a time. The forms take turns in rounds; the times are the median and the first and last
tenth of all calls. Before that, each form's answers are compared with ONNX Runtime's. The naive
graph is the network exported as written, all masks enlarged. The machine's own peak is what large
matrix products and convolutions reach in the same engine, precision and run.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
from PIL import Image

from pemexport import contract

from .cli import BenchError
from .comparison import comparison_text, standings
from .forms import (
    NAIVE,
    REFERENCE,
    SERVED_FORMS,
    Absent,
    Agreement,
    Answers,
    Form,
    Images,
    Network,
    Sources,
    agreement,
    find_forms,
)
from .machine import busy_warning, describe_machine
from .plot import write_roofline_plot, write_speed_plot
from .report import Result, as_json, roofline_json, roofline_text, speed_text, write_json
from .roofline import PRECISIONS, Cost, images_per_second, roofline
from .timing import spread, take_turns

ROOFLINE_BATCH = 8  # the aim's
FOLDER = contract.ROOT / "artifacts" / "bench"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    default = Sources()
    parser.add_argument("--graph", type=Path, default=default.graph, help="default: %(default)s")
    parser.add_argument(
        "--weights", type=Path, default=default.weights, help="for PyTorch (default: %(default)s)"
    )
    parser.add_argument("--engine", type=Path, default=default.engine, help="default: %(default)s")
    parser.add_argument(
        "--batches", type=int, nargs="+", default=[1, 2, 4, 8], metavar="N", help="default: 1 2 4 8"
    )
    parser.add_argument("--only", metavar="TEXT", help="forms with this in their name, any case")
    parser.add_argument("--threads", type=int, default=0, help="of the processor; 0 (default): all")
    parser.add_argument("--rounds", type=int, default=7, help="turns of a form (default: 7)")
    parser.add_argument(
        "--turn-seconds",
        type=float,
        default=0.5,
        help="how long a turn lasts at least; two calls are always counted (default: 0.5)",
    )
    parser.add_argument(
        "--image", type=Path, default=contract.ROOT / "docs" / "street.jpg", help="what is seen"
    )
    parser.add_argument("--roofline", action="store_true", help="only the bound; measures nothing")
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="fp16",
        help="of the bound; as-exported takes the graph's own types (default: fp16)",
    )
    parser.add_argument(
        "--output", type=Path, default=FOLDER, help="folder of JSON and plot (default: %(default)s)"
    )


def run(options: argparse.Namespace) -> None:
    if min(options.rounds, *options.batches) < 1:
        raise BenchError("--rounds and --batches must be 1 or more")
    if options.roofline:
        bounds = bounds_of(options.graph, [ROOFLINE_BATCH], options.precision)
        report_roofline(bounds[ROOFLINE_BATCH], options)
        return
    bounds = bounds_of(options.graph, sorted({*options.batches, ROOFLINE_BATCH}), options.precision)
    per_second = {batch: images_per_second(costs, batch) for batch, costs in bounds.items()}
    machine = describe_machine()
    sources = Sources(options.graph, options.weights, options.engine, options.threads)
    present, absent = choose(find_forms(sources), options.only)
    images = views(options.image, max(options.batches))
    networks = open_all(present)
    agreements = compare_all(networks, images[:1])
    results = []
    for batch in options.batches:
        say(f"batch {batch} ...")
        results += measure(networks, images[:batch], options.rounds, options.turn_seconds)
    peaks = peaks_of(present, options.threads)
    flop = sum(cost.flop for cost in bounds[ROOFLINE_BATCH]) / ROOFLINE_BATCH
    found = standings(results, NAIVE, flop, peaks)
    bound = f"{per_second[ROOFLINE_BATCH]:.0f} ({options.precision}, batch {ROOFLINE_BATCH})"
    print(speed_text(machine, results, absent, agreements, bound))
    print(comparison_text(found, peaks, next(iter(peaks), None)))
    if warning := busy_warning(machine):
        print(warning)
    content = as_json(machine, results, absent, agreements, per_second, options.precision)
    content["gflop_an_image"] = flop / 1e9
    content["peaks_gflop_per_second"] = {name: value / 1e9 for name, value in peaks.items()}
    content["standings"] = [asdict(standing) for standing in found]
    print(write_json(options.output / "engine.json", content))
    target = options.output / "engine.png"
    print(write_speed_plot(target, results, per_second, machine, options.precision))


def report_roofline(costs: Sequence[Cost], options: argparse.Namespace) -> None:
    print(roofline_text(costs, ROOFLINE_BATCH, options.precision))
    content = roofline_json(costs, ROOFLINE_BATCH, options.precision)
    print(write_json(options.output / "roofline.json", content))
    target = options.output / "roofline.png"
    print(write_roofline_plot(target, costs, ROOFLINE_BATCH, options.precision))


def bounds_of(path: Path, batches: Sequence[int], precision: str) -> dict[int, list[Cost]]:
    """The roofline at each batch size; BenchError for a file that is no such graph."""
    try:
        model = onnx.load(path)
        return {batch: roofline(model, batch, precision) for batch in batches}
    except OSError:
        raise
    except Exception as error:  # a broken file fails in protobuf's or in ONNX's own ways
        reason = " ".join(str(error).split())
        raise BenchError(f"{path} must be an ONNX graph with inferable shapes: {reason}") from error


def choose(forms: Sequence[Form | Absent], only: str | None) -> tuple[list[Form], list[Absent]]:
    wanted = [form for form in forms if only is None or only.lower() in form.name.lower()]
    present = [form for form in wanted if isinstance(form, Form)]
    absent = [form for form in wanted if isinstance(form, Absent)]
    if not present:
        reasons = "; ".join(f"{form.name} {form.reason}" for form in absent)
        raise BenchError(f"there must be a form to run: {reasons or f'none is called {only}'}")
    return present, absent


def views(path: Path, count: int) -> Images:
    """`count` different images (count, 640, 640, 3) from one: shifted a little each."""
    size = contract.IMAGE_SIZE
    with Image.open(path) as image:
        plain = np.asarray(image.convert("RGB").resize((size, size)))
    return np.stack([np.roll(plain, 37 * number, axis=1) for number in range(count)])


def open_all(forms: Sequence[Form]) -> dict[str, Network]:
    networks = {}
    for form in forms:
        say(f"opening {form.name} ...")
        networks[form.name] = form.open()
    return networks


def compare_all(networks: dict[str, Network], images: Images) -> dict[str, Agreement]:
    """Each form against ONNX Runtime, on the same images; empty where that does not run."""
    answers: dict[str, Answers] = {name: answer(images) for name, answer in networks.items()}
    reference = answers.get(REFERENCE)
    if reference is None:
        return {}
    return {name: agreement(answer, reference) for name, answer in answers.items()}


def peaks_of(forms: Sequence[Form], threads: int) -> dict[str, float]:
    """Operations a second that this machine reaches at most in each served form's precision."""
    from .matrix_peak import peak  # brings OpenVINO along

    names = {form.name for form in forms}
    wanted = {name: kind for name, kind in SERVED_FORMS.items() if name in names}
    if wanted:
        say("the machine's own peak ...")
    return {name: peak(kind, threads) for name, kind in wanted.items()}


def measure(
    networks: dict[str, Network], images: Images, rounds: int, turn_seconds: float
) -> list[Result]:
    calls = {name: lambda answer=answer: answer(images) for name, answer in networks.items()}
    seconds = take_turns(calls, rounds=rounds, turn_seconds=turn_seconds)
    return [Result(name, len(images), spread(times)) for name, times in seconds.items()]


def say(text: str) -> None:
    print(text, file=sys.stderr)
