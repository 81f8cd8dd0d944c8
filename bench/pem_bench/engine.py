"""Measure the network alone on every backend of this machine, and estimate what a T4 can do.

    ./run bench engine                      # minutes; needs a machine with nothing else to do
    ./run bench engine --roofline           # measures nothing: the T4's bound, part by part

A time is one call: images in host memory to answers in host memory, one batch at a time. The
backends take turns in rounds; the times are the median and the first and last tenth of all calls.
Before that, each backend's answers are compared with ONNX Runtime's. The naive graph is the network
exported as written, all masks enlarged. The peak of this machine is what large matrix products and
convolutions reach in the same engine, precision and run.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from PIL import Image

from pem_server.console import log
from pemexport import contract
from pemtrt.roofline import (
    AIM,
    CARD_IMAGES_PER_SECOND,
    PRECISIONS,
    T4,
    Cost,
    images_per_second,
    parts,
    roofline,
)

from .backends import (
    NAIVE,
    REFERENCE,
    SERVED_BACKENDS,
    Agreement,
    Backend,
    Images,
    Network,
    Sources,
    Unavailable,
    agreement,
)
from .bench_report import engine_chart, engine_text, publish, roofline_text
from .cli import BenchError
from .end_to_end import add_common_arguments, require_positive
from .machine import describe_machine
from .speedups import Result, interleaved, result_of, speedups

ROOFLINE_BATCH = 8  # the aim's


def add_arguments(parser: argparse.ArgumentParser) -> None:
    default = Sources()
    parser.add_argument("--graph", type=Path, default=default.graph, help="default: %(default)s")
    parser.add_argument("--weights", type=Path, default=default.weights, help="for PyTorch")
    parser.add_argument(
        "--batches", type=int, nargs="+", default=[1, 2, 4, 8], metavar="N", help="default: 1 2 4 8"
    )
    parser.add_argument("--only", metavar="TEXT", help="backends with this in their name, any case")
    parser.add_argument("--threads", type=int, default=0, help="of the CPU; 0 (default): all")
    parser.add_argument("--rounds", type=int, default=7, help="turns of a backend (default: 7)")
    parser.add_argument("--turn-seconds", type=float, default=0.5, help="at least (default: 0.5)")
    parser.add_argument("--roofline", action="store_true", help="only the bound; measures nothing")
    parser.add_argument(
        "--precision", choices=PRECISIONS, default="fp16",
        help="of the bound; as-exported takes the graph's own types (default: fp16)",
    )  # fmt: skip
    add_common_arguments(parser)


def run(options: argparse.Namespace) -> None:
    require_positive(options.rounds, *options.batches)
    costs = roofline_of(options.graph, options.precision)
    if options.roofline:
        report_roofline(costs, options)
        return
    content: dict[str, Any] = {"machine": describe_machine()}
    sources = Sources(options.graph, options.weights, options.threads)
    available, unavailable = choose(find_backends(sources), options.only)
    images = shifted_images(options.image, max(options.batches))
    log("opening " + ", ".join(backend.name for backend in available) + " ...")
    networks = {backend.name: backend.open() for backend in available}
    agreements = compare_all(networks, images[:1])
    results = []
    for batch in options.batches:
        log(f"batch {batch} ...")
        results += measure(networks, images[:batch], options.rounds, options.turn_seconds)
    peaks = peaks_of(networks, options.threads)
    flop = sum(cost.flop for cost in costs) / ROOFLINE_BATCH
    results = speedups(results, NAIVE, flop, peaks)
    content |= {
        "results": [asdict(result) for result in results],
        "not_run": [asdict(backend) for backend in unavailable],
        "agreement_with_onnx_runtime": {name: asdict(a) for name, a in agreements.items()},
        "gflop_an_image": flop / 1e9,
        "peaks_gflop_per_second": {name: value / 1e9 for name, value in peaks.items()},
        "t4": {
            "card": CARD_IMAGES_PER_SECOND,
            "aim": AIM,
            "precision": options.precision,
            "roofline": images_per_second(costs, ROOFLINE_BATCH),
        },
    }
    publish(options.output, "engine", content, engine_text(content))
    engine_chart(options.output / "engine.png", content["results"])


def report_roofline(costs: Sequence[Cost], options: argparse.Namespace) -> None:
    """`kernels` are for the whole batch (flop, bytes, seconds), `parts` for one image."""
    content = {
        "device": asdict(T4),
        "precision": options.precision,
        "batch": ROOFLINE_BATCH,
        "images_per_second": images_per_second(costs, ROOFLINE_BATCH),
        "card": CARD_IMAGES_PER_SECOND,
        "aim": AIM,
        "parts": [asdict(part) for part in parts(costs, ROOFLINE_BATCH)],
        "kernels": [asdict(cost) | {"seconds": cost.seconds} for cost in costs],
    }
    publish(options.output, "roofline", content, roofline_text(content))


def roofline_of(path: Path, precision: str) -> list[Cost]:
    """The bound of each kernel; BenchError for a file that is no such graph."""
    try:
        return roofline(onnx.load(path), ROOFLINE_BATCH, precision)
    except OSError:
        raise
    except Exception as error:  # a broken file fails in protobuf's or in ONNX's own ways
        reason = " ".join(str(error).split())
        raise BenchError(f"{path} is no ONNX graph with inferable shapes: {reason}") from error


def find_backends(sources: Sources) -> list[Backend | Unavailable]:
    """Every backend, fastest kind of device first."""
    from . import backends_cpu, backends_cuda  # --roofline needs no runtime

    return [*backends_cuda.backends(sources), *backends_cpu.backends(sources)]


def choose(
    found: Sequence[Backend | Unavailable], only: str | None
) -> tuple[list[Backend], list[Unavailable]]:
    chosen = [backend for backend in found if only is None or only.lower() in backend.name.lower()]
    available = [backend for backend in chosen if isinstance(backend, Backend)]
    unavailable = [backend for backend in chosen if isinstance(backend, Unavailable)]
    if not available:
        reasons = "; ".join(f"{backend.name} {backend.reason}" for backend in unavailable)
        raise BenchError(f"no backend to run: {reasons or f'none is called {only}'}")
    return available, unavailable


def shifted_images(path: Path, count: int) -> Images:
    """`count` different images (count, 640, 640, 3) from one: each shifted a little."""
    size = contract.IMAGE_SIZE
    with Image.open(path) as image:
        plain = np.asarray(image.convert("RGB").resize((size, size)))
    return np.stack([np.roll(plain, 37 * number, axis=1) for number in range(count)])


def compare_all(networks: Mapping[str, Network], images: Images) -> dict[str, Agreement]:
    """Each backend against ONNX Runtime, on the same images; empty where that is not chosen."""
    answers = {name: infer(images) for name, infer in networks.items()}
    reference = answers.get(REFERENCE)
    if reference is None:
        return {}
    return {name: agreement(answer, reference) for name, answer in answers.items()}


def peaks_of(networks: Mapping[str, Network], threads: int) -> dict[str, float]:
    """Operations a second that this machine reaches at most in each served precision."""
    from .matrix_peak import peak  # imports OpenVINO

    served = {name: kind for name, kind in SERVED_BACKENDS.items() if name in networks}
    if served:
        log("the peak of this machine ...")
    return {name: peak(kind, threads) for name, kind in served.items()}


def measure(
    networks: Mapping[str, Network], images: Images, rounds: int, turn_seconds: float
) -> list[Result]:
    calls = {name: lambda infer=infer: infer(images) for name, infer in networks.items()}
    seconds = interleaved(calls, rounds=rounds, turn_seconds=turn_seconds)
    return [result_of(name, len(images), times) for name, times in seconds.items()]
