"""Pass, missed goal, invalid: from samples, and from the server's count."""

from collections.abc import Callable

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


def test_a_run_that_meets_every_goal_passes(measured: Make) -> None:
    assert judge(measured([100.0] * 99 + [5000.0]), 10.0, LIMITS) == (Verdict.PASS, ())


def test_one_answer_in_fifty_that_is_late_misses_a_goal_of_p99(measured: Make) -> None:
    verdict, reasons = judge(measured([50.0] * 98 + [101.0] * 2), 10.0, LIMITS)
    assert verdict is Verdict.MISSED
    assert "101.0 ms" in reasons[0]


def test_another_percentile_may_be_the_goal(measured: Make) -> None:
    samples = measured([50.0] * 98 + [101.0] * 2)
    assert judge(samples, 10.0, LIMITS._replace(percentile=95.0)).verdict is Verdict.PASS


@pytest.mark.parametrize(("failures", "verdict"), [(1, Verdict.PASS), (2, Verdict.MISSED)])
def test_failures_above_their_share_miss_the_goal(
    measured: Make, failures: int, verdict: Verdict
) -> None:
    bad = measured([1.0] * failures, outcome=Outcome.WRONG_ANSWER)
    samples = np.concatenate([measured([50.0] * (100 - failures)), bad])
    found = judge(samples, 10.0, LIMITS)
    assert found.verdict is verdict
    if found.reasons:
        assert "2 wrong_answer" in found.reasons[0]


def test_answering_nothing_is_no_pass(measured: Make) -> None:
    samples = measured([1.0] * 10, outcome=Outcome.OVERLOADED)
    generous = LIMITS._replace(failure_share=0.999)
    assert judge(samples[:0], 1.0, generous).verdict is Verdict.INVALID
    assert judge(samples, 1.0, generous._replace(failure_share=1.0)).verdict is Verdict.MISSED


def test_too_few_answers_a_second_miss_the_goal(measured: Make) -> None:
    limits = LIMITS._replace(answered_per_second=11.0)
    assert judge(measured([1.0] * 110), 10.0, limits).verdict is Verdict.PASS
    assert judge(measured([1.0] * 109), 10.0, limits).verdict is Verdict.MISSED


def test_late_sending_makes_a_run_invalid_however_fine_its_latency(measured: Make) -> None:
    samples = np.concatenate([measured([10.0] * 98), measured([30.0] * 2, lateness=21.0)])
    found = judge(samples, 10.0, LIMITS)
    assert found.verdict is Verdict.INVALID
    assert "21.0 ms" in found.reasons[0]
    assert judge(samples, 10.0, LIMITS._replace(lateness_ms=21.0)).verdict is Verdict.PASS


def test_an_exhausted_pool_makes_a_run_invalid(measured: Make) -> None:
    samples = np.concatenate([measured([10.0] * 999), measured([10.0], pool_exhausted=True)])
    found = judge(samples, 10.0, LIMITS)
    assert found.verdict is Verdict.INVALID
    assert "--users" in found.reasons[0]


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


def test_a_step_that_exhausts_the_pool_and_fails_is_above_the_knee(measured: Make) -> None:
    refused = measured([5.0] * 50, outcome=Outcome.OVERLOADED)
    samples = np.concatenate([measured([50.0] * 50, pool_exhausted=True), refused])
    assert is_beyond_knee(samples, 10.0, LIMITS) is True


@pytest.mark.parametrize(
    ("succeeded", "uncertain", "counted", "words"),
    [
        (0, 0, 0, None),
        (100, 0, 100, None),
        (100, 5, 100, None),
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
    assert worst([Judgement(Verdict.PASS), missed]) == missed
    assert worst([missed, invalid, Judgement(Verdict.PASS)]) == invalid
    assert worst([]).verdict is Verdict.PASS
