"""Percentiles and figures from single measurements."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from pem_loadtest.samples import RECORD, SAMPLE, Outcome, Samples, percentile, summarise
from pem_loadtest.samples import read_samples as read


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [
        (range(1, 101), 50, 50),
        (range(1, 101), 99, 99),
        (range(1, 11), 99, 10),  # too few for a p99: the largest
        (range(1, 1001), 99.9, 999),
        ([147.0, 3432.0], 50, 147.0),  # nothing is rounded, as locust does to 150 and 3400
        ([3.0, 1.0, 2.0], 100, 3.0),
    ],
)
def test_a_percentile_is_one_of_the_measured_values(
    values: list[float], percent: float, expected: float
) -> None:
    assert percentile(np.array(values, float), percent) == expected
    assert math.isnan(percentile(np.empty(0), percent))


def test_a_record_is_read_as_it_was_written() -> None:
    log = RECORD.pack(1.5, 20.25, 0.5, Outcome.OVERLOADED, 300, True) * 2
    assert RECORD.size == SAMPLE.itemsize
    assert read(log).tolist() == [(1.5, 20.25, 0.5, Outcome.OVERLOADED, 300, True)] * 2
    assert len(read(b"")) == 0


def test_refusals_are_counted_and_do_not_flatter_the_latency(
    measured: Callable[..., Samples],
) -> None:
    parts = ((100.0, 10, Outcome.ANSWERED), (1.0, 30, Outcome.OVERLOADED))
    samples = np.concatenate(
        [measured([latency] * number, outcome=outcome) for latency, number, outcome in parts]
        + [measured([1.0] * 10, outcome=Outcome.REFUSED_AS_BROKEN)]
    )
    figures = summarise(samples, 10.0)
    assert figures["p50_ms"] == 100.0
    assert figures["answered_per_second"] == 1.0
    assert figures["failures"] == {"overloaded": 30}
    assert figures["failure_share"] == 0.6  # a broken image that is refused is no failure
    assert figures["refused_as_broken"] == 10
