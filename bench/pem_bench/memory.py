"""What the served system holds in memory under load, and whether it grows with every request.

    ./run bench memory                      # 60 requests to the network, 10,000 to a stand-in
    ./run bench memory --requests 100000    # a longer run with the stand-in

The sum of all its processes: resident pages, those that several share counted once (PSS); beside
it, counted in each (RSS). First the real network, kept busy by requests of 8 images each; then so
many requests that a leak would show, with a network that answers from memory and a tiny image, so
that they take a minute. Growth is the slope over the second half of the requests.
"""

import argparse
import io
import re
import threading
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from PIL import Image

from pem_server.stub_network import Cost, stub_repository

from .agreement import checker
from .cli import BenchError
from .end_to_end import add_common_arguments, say
from .load import ask_once, closed_loop
from .machine import describe_machine, machine_line
from .percentiles import slope
from .processes import memory
from .report import write_json
from .share import verdict
from .systems import REPOSITORY, System, start_ours

GOAL_MB = 2000.0
GROWTH_GOAL = 0.01  # of the peak, over the second half: below that it is the allocator's breathing
SAMPLE_S = 0.25
LARGEST = 8  # images in a request, at most
IN_FLIGHT = 16  # requests to the stand-in, which batches them: twice the largest batch
FULL_IN_FLIGHT = 3  # requests of 8 images to the network
STAND_IN = Cost(fixed_ms=30, per_image_ms=0)  # so that batches are full
TINY = (64, 48)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--requests", type=int, default=10_000, help="to the stand-in (default: 10000)"
    )
    parser.add_argument(
        "--real-requests", type=int, default=60, help="of 8 images, to the network (default: 60)"
    )
    add_common_arguments(parser)


def run(options: argparse.Namespace) -> None:
    if options.requests < 2 * IN_FLIGHT or options.real_requests < 2 * FULL_IN_FLIGHT:
        raise BenchError(
            f"--requests must be {2 * IN_FLIGHT} or more, --real-requests {2 * FULL_IN_FLIGHT}"
        )
    machine = describe_machine()
    street = options.image.read_bytes()
    runs = {"network": measure(REPOSITORY, street, options.real_requests, FULL_IN_FLIGHT, LARGEST)}
    with stub_repository(REPOSITORY, STAND_IN) as repository:
        runs["stand-in"] = measure(repository, tiny_image(), options.requests, IN_FLIGHT)
    print(memory_text(machine, runs))
    content = {"machine": machine, "goal_mb": GOAL_MB, "runs": runs}
    print(write_json(options.output / "memory.json", content))
    print(write_memory_plot(options.output / "memory.png", runs))


def measure(
    repository: Path, image: bytes, requests: int, in_flight: int, images: int = 1
) -> dict[str, Any]:
    """Serve `repository`, send requests of so many `images`, note what its processes hold."""
    say(f"{requests} requests to {repository} ...")
    with ExitStack() as stack:
        system = start_ours(stack, image, repository, images)
        at_rest = memory(system.pids)
        check, answered = counted(checker(ask_once(system.lanes["grpc"])))
        with Sampler(system, answered) as sampler:
            answers = closed_loop(
                system.lanes["grpc"], check, in_flight=in_flight, requests=requests
            )
        batch = mean_batch(system.metrics_url)
    if answers.failures:
        raise BenchError(f"every request must be answered, but {answers.failures[0]}")
    figures = summary(sampler.samples)
    return {
        "requests": requests,
        "images_per_second": images * answers.images_per_second,
        "mean_batch": batch,
        "at_rest_mb": at_rest.pss,
        **figures,
        "samples": sampler.samples,
    }


def summary(samples: Sequence[dict[str, float]]) -> dict[str, float]:
    """The peaks, and the growth over the second half of the requests, in MB."""
    half = samples[-1]["answered"] / 2
    late = [sample for sample in samples if sample["answered"] >= half]
    per_request = slope([s["answered"] for s in late], [s["pss_mb"] for s in late])
    return {
        "peak_pss_mb": max(sample["pss_mb"] for sample in samples),
        "peak_rss_mb": max(sample["rss_mb"] for sample in samples),
        "peak_shared_mb": max(sample["shared_mb"] for sample in samples),
        "growth_mb": per_request * half,
    }


class Sampler:
    """Notes, in a thread, what a system holds at each number of answers, until its block ends."""

    def __init__(self, system: System, answered: Callable[[], int]) -> None:
        self.samples: list[dict[str, float]] = []
        self._system, self._answered = system, answered
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._work)

    def __enter__(self) -> "Sampler":
        self._thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._done.set()
        self._thread.join()

    def _work(self) -> None:
        while True:
            is_last = self._done.wait(SAMPLE_S)
            held = memory(self._system.pids)
            self.samples.append(
                {
                    "answered": self._answered(),
                    "pss_mb": held.pss,
                    "rss_mb": held.rss,
                    "shared_mb": held.shared,
                }
            )
            if is_last:
                return


def counted(
    check: Callable[[bytes], str | None],
) -> tuple[Callable[[bytes], str | None], Callable[[], int]]:
    """The check, and how often it was asked."""
    asked = list[None]()

    def count_and_check(answer: bytes) -> str | None:
        asked.append(None)  # appending is safe in many threads
        return check(answer)

    return count_and_check, lambda: len(asked)


def mean_batch(metrics_url: str) -> float:
    """How many images the network step had at once, since the server began."""
    with urllib.request.urlopen(metrics_url, timeout=10) as answer:
        return parse_mean_batch(answer.read().decode())


def parse_mean_batch(metrics: str) -> float:
    line = r'^nv_inference_{}\{{[^}}]*model="pem_network"[^}}]*\}} (\S+)$'
    images, batches = (
        sum(map(float, re.findall(line.format(name), metrics, re.MULTILINE)))
        for name in ("count", "exec_count")
    )
    return images / max(1.0, batches)


def tiny_image() -> bytes:
    file = io.BytesIO()
    Image.linear_gradient("L").resize(TINY).convert("RGB").save(file, "JPEG")
    return file.getvalue()


def memory_text(machine: dict[str, object], runs: dict[str, dict[str, Any]]) -> str:
    lines = [
        machine_line(machine),
        "",
        f"{'MB':10} at rest  peak PSS  peak RSS  shared   requests  mean batch  growth, 2nd half",
    ]
    for name, found in runs.items():
        lines.append(
            f"{name:10} {found['at_rest_mb']:7.0f}  {found['peak_pss_mb']:8.0f}  "
            f"{found['peak_rss_mb']:8.0f}  {found['peak_shared_mb']:6.0f}  {found['requests']:9}  "
            f"{found['mean_batch']:10.1f}  {found['growth_mb']:+.1f}"
        )
    network, many = runs["network"], runs["stand-in"]
    lines += [
        "",
        f"Resident under load: {network['peak_pss_mb']:.0f} MB (goal: under {GOAL_MB:.0f}, "
        f"{verdict(network['peak_pss_mb'] < GOAL_MB)})",
        f"Over {many['requests']} requests the second half added {many['growth_mb']:+.1f} MB "
        f"(goal: under {GROWTH_GOAL:.0%} of the peak, {verdict(does_not_grow(many))})",
    ]
    return "\n".join(lines)


def does_not_grow(found: dict[str, Any]) -> bool:
    return bool(found["growth_mb"] < GROWTH_GOAL * found["peak_pss_mb"])


def write_memory_plot(path: Path, runs: dict[str, dict[str, Any]]) -> Path:
    """MB over the requests answered, of each run; returns `path`."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for axes, (name, found) in zip(figure.subplots(1, len(runs)), runs.items(), strict=True):
        answered = [sample["answered"] for sample in found["samples"]]
        for key, label in (("pss_mb", "PSS"), ("rss_mb", "RSS"), ("shared_mb", "shared memory")):
            axes.plot(answered, [sample[key] for sample in found["samples"]], label=label)
        axes.set_title(name, fontsize="medium")
        axes.set_xlabel("requests answered")
        axes.set_ylabel("MB")
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    return path
