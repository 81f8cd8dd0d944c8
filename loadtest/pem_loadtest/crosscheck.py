"""`./run loadtest crosscheck`: the same load from our generator and from MLPerf LoadGen's.

LoadGen's Server scenario is Poisson, too, and counts from the intended sending. Where the two
disagree on the same server, one of them does not make the load that it says.
"""

import argparse
import json
import queue
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pem_client import Client, PemError

from .images import EncodedImage, make_images
from .options import HOST, METRICS, STREET

CLIENTS = 64
_P99 = re.compile(r"^\s*99\.00 percentile latency \(ns\)\s*:\s*(\d+)", re.MULTILINE)


def main(argv: Sequence[str]) -> int:
    """0: the two p99 are within --within of each other; 1: not; 2: LoadGen is not installed; 3: one
    of the runs was invalid."""
    options = _parser().parse_args(argv)
    try:
        import mlperf_loadgen  # type: ignore[import-not-found]
    except ImportError:
        print(
            "LoadGen must be installed for the cross-check: pip install mlcommons-loadgen",
            file=sys.stderr,
        )
        return 2
    ours = ask_ours(options)
    if ours is None:
        return 3
    theirs, failed = ask_loadgen(mlperf_loadgen, options)
    print(f"\np99 at {options.rate:g} images a second for {options.seconds:g} s, {options.host}")
    print(f"  ./run loadtest  {ours:8.1f} ms")
    print(f"  MLPerf LoadGen  {theirs:8.1f} ms" + (f", {failed} failed" if failed else ""))
    print(f"  ratio           {ours / theirs:8.2f}")
    return 3 if failed else int(not is_within(ours, theirs, options.within))


def is_within(one: float, other: float, share: float) -> bool:
    """Whether the larger exceeds the smaller by at most this share of it."""
    return max(one, other) <= (1 + share) * min(one, other)


def ask_ours(options: argparse.Namespace) -> float | None:
    """p99 of a constant run in a process of its own, in milliseconds; None when it is invalid."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *(sys.executable, "-m", "pem_loadtest", "--host", options.host),
            *("--rate", str(options.rate), "--seconds", str(options.seconds)),
            *("--metrics", options.metrics, "--broken", "0", "--seed", str(options.seed)),
            *("--lateness-limit", str(options.lateness_limit), "--output", folder),
        ]
        ended = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        print(ended.stdout.partition("\nType ")[0], flush=True)
        if ended.returncode not in (0, 1):  # whether a goal is met is no matter here
            return None
        report = json.loads((Path(folder) / "report.json").read_text())
        found: float | None = report["steps"][0]["p99_ms"]
        return found


def ask_loadgen(loadgen: Any, options: argparse.Namespace) -> tuple[float, int]:
    """(p99 in milliseconds, images that failed) of LoadGen's Server scenario."""
    images = make_images(STREET, options.seed)
    with tempfile.TemporaryDirectory() as folder:
        crew = Crew(loadgen, options.host, images)
        system = loadgen.ConstructSUT(crew.issue, lambda: None)
        library = loadgen.ConstructQSL(len(images), len(images), _nothing, _nothing)
        outputs = loadgen.LogOutputSettings()
        outputs.outdir = folder
        outputs.copy_summary_to_stdout = False
        logs = loadgen.LogSettings()
        logs.log_output = outputs
        logs.enable_trace = False
        try:
            loadgen.StartTestWithLogSettings(system, library, settings(loadgen, options), logs)
        finally:
            loadgen.DestroyQSL(library)
            loadgen.DestroySUT(system)
            crew.stop()
        summary = (Path(folder) / "mlperf_log_summary.txt").read_text()
    return read_p99(summary), crew.failed


def read_p99(summary: str) -> float:
    """Milliseconds, from the text of LoadGen's summary; ValueError when it does not say."""
    found = _P99.search(summary)
    if not found:
        raise ValueError(f"LoadGen's summary must hold a 99th percentile:\n{summary}")
    return int(found[1]) / 1e6


def settings(loadgen: Any, options: argparse.Namespace) -> Any:
    """LoadGen's settings for the same load."""
    chosen = loadgen.TestSettings()
    chosen.scenario = loadgen.TestScenario.Server
    chosen.mode = loadgen.TestMode.PerformanceOnly
    chosen.server_target_qps = options.rate
    chosen.server_target_latency_ns = int(60e9)  # no matter here: the two p99 are compared
    chosen.min_duration_ms = int(options.seconds * 1e3)
    chosen.max_duration_ms = int(options.seconds * 2e3)
    chosen.min_query_count = max(1, int(options.rate * options.seconds))
    chosen.schedule_rng_seed = chosen.sample_index_rng_seed = chosen.qsl_rng_seed = options.seed
    return chosen


class Crew:
    """Threads that answer LoadGen's questions through the server, each with a client of its own."""

    def __init__(self, loadgen: Any, url: str, images: list[EncodedImage]) -> None:
        self.failed = 0
        self._loadgen = loadgen
        self._url = url
        self._images = images
        self._questions: queue.SimpleQueue[tuple[int, int] | None] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def issue(self, samples: Sequence[Any]) -> None:
        """LoadGen's call at the time of sending."""
        for sample in samples:
            self._questions.put((sample.id, sample.index))

    def stop(self) -> None:
        """After the last answer."""
        for _ in self._threads:
            self._questions.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        with Client(self._url) as client:
            while question := self._questions.get():
                number, index = question
                try:
                    client.infer(self._images[index].data)
                except PemError:
                    self.failed += 1
                answer = self._loadgen.QuerySampleResponse(number, 0, 0)
                self._loadgen.QuerySamplesComplete([answer])


def _nothing(_: Any) -> None:
    """The images are in memory already."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="./run loadtest crosscheck", description=__doc__)
    parser.add_argument("--rate", type=float, required=True, help="images a second")
    parser.add_argument("--seconds", type=float, default=60.0, help="default %(default)s")
    parser.add_argument("--host", default=HOST, help="default %(default)s")
    parser.add_argument("--metrics", default=METRICS, help="default %(default)s")
    parser.add_argument("--seed", type=int, default=1, help="default %(default)s")
    parser.add_argument("--within", type=float, default=0.3, help="share; default %(default)s")
    parser.add_argument(
        "--lateness-limit", type=float, default=20.0, help="milliseconds; default %(default)s"
    )
    return parser
