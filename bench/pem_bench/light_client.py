"""The load of `./run bench steps`: one question, asked again and again, in a process of its own.

    python -m pem_bench.light_client HOST:PORT IMAGE --in-flight 8 --seconds 10

The request's bytes are made once. Every 50th answer is read and must say what the first one said.
Standard output is one JSON object.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from .load import Answered, closed_loop
from .wires import ENSEMBLE, encoded_image, triton_grpc

READ_EVERY = 50


class Sample:
    """Compares every 50th answer with the first; `found` are the first one's detections."""

    def __init__(self) -> None:
        self.found: list[dict[str, Any]] | None = None
        self._answers = 0

    def check(self, answer: bytes) -> str | None:
        """A sentence about an answer that differs from the first."""
        self._answers += 1
        if self._answers % READ_EVERY != 1:
            return None
        found = json.loads(answer)["detections"]
        self.found = found if self.found is None else self.found
        return None if found == self.found else "one question must always have one answer"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address")
    parser.add_argument("image", type=Path)
    parser.add_argument("--in-flight", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    sample = Sample()
    open_ask = triton_grpc(options.address, ENSEMBLE, *encoded_image(options.image.read_bytes()))
    answered = closed_loop(
        open_ask, sample.check, in_flight=options.in_flight, seconds=options.seconds
    )
    json.dump(told(answered, sample), sys.stdout)


def told(answered: Answered, sample: Sample) -> dict[str, Any]:
    return {
        "answered": len(answered.latencies),
        "failures": len(answered.failures),
        "failure": answered.failures[0] if answered.failures else None,
        "seconds": answered.seconds,
        "cpu_seconds": answered.client_seconds,
        "p50_ms": answered.milliseconds(50),
        "p99_ms": answered.milliseconds(99),
        "found": sample.found,
    }


if __name__ == "__main__":
    main()
