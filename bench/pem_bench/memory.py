"""What the served system holds in memory: idle, under load, and whether it grows.

    ./run bench memory                      # 60 requests to the network, 10,000 to a stub network
    ./run bench memory --requests 100000    # a longer run with the stub network

The sum over all its processes: resident pages, shared ones counted once (PSS). First the real
network, kept busy by requests of 8 images each; then enough requests to show a leak, with a network
that answers from a record and a tiny image, so that they take a minute. Growth is the slope over
the second half of the run.
"""

import argparse
import io
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from pem_server.checkout import MODEL_REPOSITORY
from pem_server.console import log
from pem_server.stub_network import Cost, stub_repository

from .agreement import checker
from .bench_report import MEMORY_GOAL_MB, memory_text, publish
from .cli import BenchError
from .end_to_end import add_common_arguments
from .load_generator import closed_loop, send_once
from .machine import describe_machine
from .processes import memory_mb
from .systems import System, start_ours

SAMPLE_S = 0.25
LARGEST = 8  # images in a request, at most
IN_FLIGHT = 16  # requests to the stub network, which batches them: twice the largest batch
FULL_IN_FLIGHT = 3  # requests of 8 images to the network
STUB_COST = Cost(fixed_ms=30, per_image_ms=0)  # so that batches are full
TINY = (64, 48)


class Sample(NamedTuple):
    seconds: float
    megabytes: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--requests", type=int, default=10_000, help="to the stub (default: 10000)")
    parser.add_argument("--real-requests", type=int, default=60, help="of 8 images (default: 60)")
    add_common_arguments(parser)


def run(options: argparse.Namespace) -> None:
    if options.requests < 2 * IN_FLIGHT or options.real_requests < 2 * FULL_IN_FLIGHT:
        least = f"--requests {2 * IN_FLIGHT}, --real-requests {2 * FULL_IN_FLIGHT}"
        raise BenchError(f"too few requests to see growth; the least are {least}")
    machine = describe_machine()
    image = options.image.read_bytes()
    network = measure(MODEL_REPOSITORY, image, options.real_requests, FULL_IN_FLIGHT, LARGEST)
    with stub_repository(MODEL_REPOSITORY, STUB_COST) as repository:
        stub = measure(repository, tiny_image(), options.requests, IN_FLIGHT)
    runs = {"network": network, "stub": stub}
    content = {"machine": machine, "goal_mb": MEMORY_GOAL_MB, "runs": runs}
    publish(options.output, "memory", content, memory_text(content))


def measure(
    repository: Path, image: bytes, requests: int, in_flight: int, images: int = 1
) -> dict[str, Any]:
    """Serve `repository`, send requests of `images` each, note what its processes hold."""
    log(f"{requests} requests to {repository} ...")
    with ExitStack() as stack:
        system = start_ours(stack, image, repository, images)
        idle = memory_mb(system.pids)
        connect = system.connections["grpc"]
        check = checker(send_once(connect))
        with sampled(system) as samples:
            load = closed_loop(connect, check, in_flight=in_flight, requests=requests)
    if load.failures:
        raise BenchError(f"every request must be answered, but: {load.failures[0]}")
    return {
        "requests": requests,
        "idle_mb": idle,
        "peak_mb": max(sample.megabytes for sample in samples),
        "growth_mb": late_growth(samples),
    }


def late_growth(samples: Sequence[Sample]) -> float:
    """The growth over the second half of the run, in MB."""
    half = samples[-1].seconds / 2
    late = [sample for sample in samples if sample.seconds >= half]
    if len(late) < 2:
        return 0.0
    seconds, megabytes = np.array(late).T
    return float(half * np.polyfit(seconds, megabytes, 1)[0])


@contextmanager
def sampled(system: System) -> Iterator[list[Sample]]:
    """Note in a thread, until the block ends, what the system holds over time."""
    samples: list[Sample] = []
    done, start = threading.Event(), time.monotonic()

    def work() -> None:
        is_last = False
        while not is_last:
            is_last = done.wait(SAMPLE_S)
            samples.append(Sample(time.monotonic() - start, memory_mb(system.pids)))

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield samples
    finally:
        done.set()
        thread.join()


def tiny_image() -> bytes:
    file = io.BytesIO()
    Image.linear_gradient("L").resize(TINY).convert("RGB").save(file, "JPEG")
    return file.getvalue()
