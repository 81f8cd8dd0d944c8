"""The comparison with MLPerf LoadGen; the comparison itself needs a quiet machine."""

import pytest

from pem_loadtest.crosscheck import is_within, read_p99

SUMMARY = """\
90.00 percentile latency (ns)   : 61000000
97.00 percentile latency (ns)   : 77000000
99.00 percentile latency (ns)   : 87250000
99.90 percentile latency (ns)   : 99000000
"""


def test_p99_is_read_from_the_summary() -> None:
    assert read_p99(SUMMARY) == 87.25
    with pytest.raises(ValueError, match="must hold a 99th percentile"):
        read_p99("")


@pytest.mark.parametrize(
    ("one", "other", "agrees"), [(130, 100, True), (100, 130, True), (131, 100, False)]
)
def test_either_may_be_the_larger(one: float, other: float, agrees: bool) -> None:
    assert is_within(one, other, 0.3) is agrees
