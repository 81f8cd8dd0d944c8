"""What serving costs beside the network: the ensemble at saturation against the bare engine.

    ./run bench overhead

The bare engine is the network step's own, called in a loop in this process on the same cores. The
steps take processor time that the engine cannot have, so the reachable rate is

    1 / (1 / bare + processor time of the steps an image / cores)

images a second. Then images arrive at 80% of the saturated rate, first evenly, then as a Poisson
process. Their latencies are compared with those of an ideal server, which takes 1 / saturated rate
for each of the same arrivals, in order, without jitter. By queueing theory its p99 is about five
medians for Poisson arrivals, so a p99 below three medians is out of reach there.
"""

import argparse
import os
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np

from pem_loadtest.arrivals import poisson
from pem_server.checkout import MODEL_REPOSITORY
from pem_server.console import log
from pem_server.model_config import read_model_config
from pemexport import contract
from pemexport.repository_steps import open_network

from .agreement import checker
from .backends import Images, Network
from .bench_report import overhead_text, publish
from .cli import BenchError
from .end_to_end import WARM_UP, Turn, add_common_arguments, require_positive, row_of, timed_turn
from .engine import shifted_images
from .load_generator import closed_loop, open_loop, percentile, send_once
from .machine import describe_machine
from .systems import OURS, System, start_ours

STEPS = ("pem_preprocess", "pem_postprocess")
BATCHES = (1, 8)  # of the bare engine; the faster one counts
LOAD = 0.8  # of the saturated rate


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=3, help="turns of each (default: 3)")
    parser.add_argument("--turn-seconds", type=float, default=6, help="default: 6")
    parser.add_argument("--in-flight", type=int, default=16, help="at saturation (default: 16)")
    parser.add_argument("--open-seconds", type=float, default=60, help="of arrivals (default: 60)")
    add_common_arguments(parser)


def run(options: argparse.Namespace) -> None:
    require_positive(options.rounds, options.in_flight, options.turn_seconds, options.open_seconds)
    content: dict[str, Any] = {"machine": describe_machine()}
    with ExitStack() as stack:
        system = start_ours(stack, options.image.read_bytes())
        content["overhead"] = measure_overhead(system, options)
        rate, seconds = LOAD * content["overhead"]["saturated"], options.open_seconds
        random_arrivals = poisson(rate, seconds, np.random.default_rng(0)).tolist()
        content["paced"] = {
            "even": measure_paced(system, rate, evenly(rate, seconds)),
            "Poisson": measure_paced(system, rate, random_arrivals),
        }
    publish(options.output, "overhead", content, overhead_text(content))


def measure_overhead(system: System, options: argparse.Namespace) -> dict[str, Any]:
    """The bare engine at each batch size and the saturated ensemble take turns."""
    served = read_model_config(MODEL_REPOSITORY / "pem_network").parameters
    precision, threads = (served[key].string_value for key in ("precision", "threads"))
    engine = open_network(contract.ONNX_PATH, precision, int(threads))
    images = shifted_images(options.image, max(BATCHES))
    connect = system.connections["grpc"]
    check = checker(send_once(connect))
    closed_loop(connect, check, in_flight=options.in_flight, requests=WARM_UP)
    bare: dict[int, list[float]] = {batch: [] for batch in BATCHES}
    turns: list[Turn] = []
    for number in range(options.rounds):
        log(f"round {number + 1} of {options.rounds} ...")
        for batch, rates in bare.items():
            rates.append(bare_rate(engine, images[:batch], options.turn_seconds / len(bare)))
        turns.append(timed_turn(system, connect, check, options.in_flight, options.turn_seconds))
    row = row_of(OURS, "grpc", options.in_flight, turns)
    if missing := row["failures"]:
        raise BenchError(f"every request must be answered, but {missing} were not (see above)")
    by_batch = {str(batch): float(np.mean(rates)) for batch, rates in bare.items()}
    return overhead_of(by_batch, row, len(os.sched_getaffinity(0)))


def bare_rate(engine: Network, images: Images, seconds: float) -> float:
    """Images a second of `engine` in a loop, after one uncounted call."""
    engine(images)
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        engine(images)
        count += len(images)
    return count / (time.perf_counter() - start)


def overhead_of(bare_by_batch: dict[str, float], row: dict[str, Any], cores: int) -> dict[str, Any]:
    """The saturated rate beside the reachable one; processor times are milliseconds an image."""
    bare = max(bare_by_batch.values())
    steps = sum(row["cpu_ms"].get(step, 0.0) for step in STEPS)
    reachable = 1 / (1 / bare + steps / 1000 / cores)
    return {
        "bare": bare,
        "bare_by_batch": bare_by_batch,
        "saturated": row["images_per_second"],
        "cores": cores,
        "cpu_ms": row["cpu_ms"] | {"client": row["client_cpu_ms"]},
        "reachable": reachable,
        "share": row["images_per_second"] / reachable,
    }


def measure_paced(system: System, rate: float, offsets: Sequence[float]) -> dict[str, Any]:
    """Latencies over gRPC of images sent at `offsets`, in seconds, and of the ideal server."""
    log(f"{len(offsets)} images, {rate:.1f} a second ...")
    if not offsets:
        raise BenchError("--open-seconds must be longer: no image arrives in that time")
    connect = system.connections["grpc"]
    load = open_loop(connect, checker(send_once(connect)), offsets)
    ideal = ideal_latencies(offsets, LOAD / rate)
    return {
        "rate": rate,
        "sent": len(offsets),
        "failed": len(load.failures),
        **{f"p{percent}_ms": load.milliseconds(percent) for percent in (50, 99)},
        "ratio": load.milliseconds(99) / load.milliseconds(50),
        "ideal_p50_ms": 1000 * percentile(ideal, 50),
        "ideal_p99_ms": 1000 * percentile(ideal, 99),
        "ideal_ratio": percentile(ideal, 99) / percentile(ideal, 50),
    }


def evenly(rate: float, seconds: float) -> list[float]:
    """Arrivals at a constant interval: `rate` a second, for `seconds`."""
    return [number / rate for number in range(max(1, round(rate * seconds)))]


def ideal_latencies(offsets: Sequence[float], service: float) -> list[float]:
    """Latencies of the same arrivals at one server that takes `service` seconds for each.

    No server of that capacity that answers one after the other does better.
    """
    free, latencies = 0.0, []
    for offset in offsets:
        free = max(free, offset) + service
        latencies.append(free - offset)
    return latencies
