"""Pass, missed goal, invalid: from samples, and from the server's count."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pem_loadtest.samples import Outcome, Samples
from pem_loadtest.verdict import (
    Judgement,
    Limits,
    Verdict,
    conservation_problem,
    is_beyond_knee,
    judge,
    worst,
)

LIMITS = Limits(latency_ms=100.0, lateness_ms=20.0, failure_share=0.01)
Make = Callable[..., Samples]


@pytest.fixture
def mixed(measured: Make) -> Make:
    """Samples of several kinds: (number, latency_ms, further arguments of `measured`)."""
    return lambda *parts: np.concatenate(
        [measured([latency] * number, **more) for number, latency, more in parts]
    )


WRONG = {"outcome": Outcome.WRONG_ANSWER}
SLOW = [(98, 50.0, {}), (2, 101.0, {})]


@pytest.mark.parametrize(
    ("parts", "limits", "verdict", "reason"),
    [
        ([(99, 100.0, {}), (1, 5000.0, {})], {}, Verdict.PASS, ""),
        (SLOW, {}, Verdict.MISSED, "101.0 ms"),  # one answer in fifty is late for p99
        (SLOW, {"percentile": 95.0}, Verdict.PASS, ""),
        ([(99, 50.0, {}), (1, 1.0, WRONG)], {}, Verdict.PASS, ""),
        ([(98, 50.0, {}), (2, 1.0, WRONG)], {}, Verdict.MISSED, "2 wrong_answer"),
        ([(10, 1.0, WRONG)], {"failure_share": 1.0}, Verdict.MISSED, "p99 is nan"),
        ([(0, 1.0, {})], {}, Verdict.INVALID, "nothing was sent"),
        ([(110, 1.0, {})], {"answered_per_second": 11.0}, Verdict.PASS, ""),
        ([(109, 1.0, {})], {"answered_per_second": 11.0}, Verdict.MISSED, "the goal is 11"),
        # However fine its latency.
        ([(98, 10.0, {}), (2, 30.0, {"lateness": 21.0})], {}, Verdict.INVALID, "21.0 ms"),
        ([(98, 9.0, {}), (2, 9.0, {"lateness": 21.0})], {"lateness_ms": 21.0}, Verdict.PASS, ""),
        ([(99, 1.0, {}), (1, 1.0, {"pool_exhausted": True})], {}, Verdict.INVALID, "--users"),
    ],
)
def test_a_step_passes_misses_a_goal_or_is_invalid(
    parts: Any, limits: dict[str, float], verdict: Verdict, reason: str, mixed: Make
) -> None:
    found = judge(mixed(*parts), 10.0, LIMITS._replace(**limits))
    assert found.verdict is verdict
    assert len(found.reasons) == bool(reason)
    assert reason in "".join(found.reasons)


@pytest.mark.parametrize(
    ("latency", "lateness", "pool_exhausted", "expected"),
    [
        (50.0, 0.0, False, False),
        (150.0, 0.0, False, True),
        (250.0, 100.0, True, True),  # 150 ms on the way: the server itself was too slow
        (150.0, 100.0, True, None),  # 50 ms on the way: the pool was too small
        (250.0, 100.0, False, None),  # this machine was too slow
    ],
)
def test_a_step_of_the_ladder_proves_something_or_nothing(
    measured: Make, latency: float, lateness: float, pool_exhausted: bool, expected: bool | None
) -> None:
    samples = measured([latency] * 100, lateness=lateness, pool_exhausted=pool_exhausted)
    assert is_beyond_knee(samples, 10.0, LIMITS) is expected


def test_a_step_that_exhausts_the_pool_and_fails_is_above_the_knee(mixed: Make) -> None:
    refused = (50, 5.0, {"outcome": Outcome.OVERLOADED})
    samples = mixed((50, 50.0, {"pool_exhausted": True}), refused)
    assert is_beyond_knee(samples, 10.0, LIMITS) is True


@pytest.mark.parametrize(
    ("succeeded", "uncertain", "counted", "words"),
    [
        (100, 0, 100, None),
        (100, 5, 105, None),
        (100, 5, 106, "counted 106"),
        (100, 0, 101, "counted 101"),
        (100, 0, 99, "--metrics"),
        (100, 0, -3, "restarted"),
    ],
)
def test_what_clients_got_is_what_the_server_counted(
    succeeded: int, uncertain: int, counted: float, words: str | None
) -> None:
    problem = conservation_problem(succeeded, uncertain, counted)
    assert (problem is None) if words is None else (problem and words in problem)


def test_the_worst_verdict_counts_and_brings_its_reasons_alone() -> None:
    missed, invalid = Judgement(Verdict.MISSED, ("slow",)), Judgement(Verdict.INVALID, ("late",))
    assert worst([missed, invalid, Judgement(Verdict.PASS)]) == invalid
    assert worst([]).verdict is Verdict.PASS
