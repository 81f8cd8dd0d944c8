"""What the clients measured: one record an image, kept whole, so that percentiles are exact."""

import math
import struct
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

PERCENTILES = (50.0, 95.0, 99.0)


class Outcome(IntEnum):
    """How one image ended. A broken one that is refused is as good as an answer."""

    ANSWERED = 0
    REFUSED_AS_BROKEN = 1
    WRONG_ANSWER = 2  # unlike the contract, or unlike the first answer to the same image
    BROKEN_ACCEPTED = 3
    REFUSED = 4  # INVALID_ARG for a good image
    OVERLOADED = 5
    UNAVAILABLE = 6
    TIMED_OUT = 7
    SERVER_ERROR = 8

    @property
    def is_failure(self) -> bool:
        """Whether the server should have answered otherwise."""
        return self > Outcome.REFUSED_AS_BROKEN


# The server answered these without an error, so its counter holds them.
SUCCEEDED = (Outcome.ANSWERED, Outcome.WRONG_ANSWER, Outcome.BROKEN_ACCEPTED)
# Nobody knows whether the server finished these.
UNCERTAIN = (Outcome.TIMED_OUT, Outcome.UNAVAILABLE)

# due_s: the planned time, from the start of the schedule. latency_ms: from the planned time to the
# answer. lateness_ms: from the planned to the actual sending. image: its index among all images.
# is_pool_exhausted: no user was free at the planned time.
_FIELDS = ["due_s", "latency_ms", "lateness_ms", "outcome", "image", "is_pool_exhausted"]
SAMPLE = np.dtype(list(zip(_FIELDS, ("<f8", "<f8", "<f8", "u1", "<u2", "?"), strict=True)))
RECORD = struct.Struct("<dddBH?")  # the same, one at a time

Samples = NDArray[np.void]  # (N,) of SAMPLE


def read_samples(log: bytes) -> Samples:
    """The records of a log that was written with RECORD."""
    return np.frombuffer(log, SAMPLE)


def percentile(values: NDArray[Any], percent: float) -> float:
    """The smallest value that at least `percent` of all do not exceed; nan of none."""
    if not len(values):
        return math.nan
    # A little less, or 99.9 of 1000 values rounds up to the last.
    return float(np.percentile(values, percent - 1e-9, method="inverted_cdf"))


def count(samples: Samples, *outcomes: Outcome) -> int:
    """How many images ended in one of these ways."""
    return int(np.isin(samples["outcome"], outcomes).sum())


def summarise(samples: Samples, seconds: float) -> dict[str, Any]:
    """The figures of one step; milliseconds, and images a second over its `seconds`.

    Latencies are those of answers: a refusal is fast, and would flatter them.
    """
    answered = samples[samples["outcome"] == Outcome.ANSWERED]
    failures = {
        outcome.name.lower(): count(samples, outcome)
        for outcome in Outcome
        if outcome.is_failure and count(samples, outcome)
    }
    return {
        "sent": len(samples),
        "sent_per_second": len(samples) / seconds,
        "answered": len(answered),
        "answered_per_second": len(answered) / seconds,
        "refused_as_broken": count(samples, Outcome.REFUSED_AS_BROKEN),
        "failures": failures,
        "failure_share": sum(failures.values()) / max(1, len(samples)),
        **{f"p{each:g}_ms": percentile(answered["latency_ms"], each) for each in PERCENTILES},
        "max_ms": percentile(answered["latency_ms"], 100),
        "lateness_p99_ms": percentile(samples["lateness_ms"], 99),
        "pool_exhausted": int(samples["is_pool_exhausted"].sum()),
    }
