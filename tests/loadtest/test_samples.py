"""Percentiles and figures from single measurements."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from pem_loadtest.samples import Outcome, Samples, percentile, summarise


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [
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


def test_refusals_are_counted_and_do_not_flatter_the_latency(
    measured: Callable[..., Samples],
) -> None:
    outcomes = [Outcome.ANSWERED] * 10 + [Outcome.OVERLOADED] * 30
    outcomes += [Outcome.REFUSED_AS_BROKEN] * 10  # no failure
    figures = summarise(measured([100.0] * 10 + [1.0] * 40, outcome=outcomes), 10.0)
    assert (figures["p50_ms"], figures["answered_per_second"]) == (100.0, 1.0)
    assert (figures["failures"], figures["failure_share"]) == ({"overloaded": 30}, 0.6)
    assert figures["refused_as_broken"] == 10
