"""Pass, missed goal, invalid: from samples, and from the server's count."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pem_loadtest import verdict
from pem_loadtest.samples import Outcome, Samples
from pem_loadtest.verdict import Limits, Verdict

LIMITS = Limits(latency_ms=100.0, lateness_ms=20.0, failure_share=0.01)
Make = Callable[..., Samples]


@pytest.fixture
def mixed(measured: Make) -> Make:
    """Samples of several kinds: (number, latency_ms, further arguments of `measured`)."""
    return lambda *parts: np.concatenate(
        [measured([latency] * number, **more) for number, latency, more in parts]
    )


POOL = {"is_pool_exhausted": True}
LATE = {"lateness_ms": 100.0}
WRONG = {"outcome": Outcome.WRONG_ANSWER}
SLOW = [(98, 50.0, {}), (2, 101.0, {})]


@pytest.mark.parametrize(
    ("parts", "limits", "expected", "reason"),
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
        ([(98, 10.0, {}), (2, 30.0, {"lateness_ms": 21.0})], {}, Verdict.INVALID, "21.0 ms"),
        ([(98, 9.0, {}), (2, 9.0, {"lateness_ms": 21.0})], {"lateness_ms": 21.0}, Verdict.PASS, ""),
        ([(99, 1.0, {}), (1, 1.0, POOL)], {}, Verdict.INVALID, "--users"),
    ],
)
def test_a_step_passes_misses_a_goal_or_is_invalid(
    parts: Any, limits: dict[str, float], expected: Verdict, reason: str, mixed: Make
) -> None:
    found = verdict.evaluate(mixed(*parts), 10.0, LIMITS._replace(**limits))
    assert found.verdict is expected
    assert len(found.reasons) == bool(reason)
    assert reason in "".join(found.reasons)


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([(99, 50.0, {})], False),
        ([(99, 150.0, {})], True),
        ([(99, 250.0, LATE | POOL)], True),  # 150 ms on the way: the server itself was too slow
        ([(99, 150.0, LATE | POOL)], None),  # 50 ms on the way: the pool was too small
        ([(99, 250.0, LATE)], None),  # this machine was too slow
        ([(50, 50.0, POOL), (50, 5.0, WRONG)], True),
    ],
)
def test_a_step_of_the_ladder_proves_something_or_nothing(
    parts: Any, expected: bool | None, mixed: Make
) -> None:
    assert verdict.is_beyond_knee(mixed(*parts), 10.0, LIMITS) is expected


@pytest.mark.parametrize(
    ("succeeded", "uncertain", "counted", "words"),
    [
        (100, 5, 105, ""),
        (100, 5, 106, "counted 106"),
        (100, 0, 99, "--metrics"),
        (100, 0, -3, "restarted"),
    ],
)
def test_what_clients_got_is_what_the_server_counted(
    succeeded: int, uncertain: int, counted: float, words: str
) -> None:
    problem = verdict.conservation_problem(succeeded, uncertain, counted) or ""
    assert bool(problem) is bool(words)
    assert words in problem


def test_the_worst_verdict_counts_and_brings_its_reasons_alone() -> None:
    kinds = ((Verdict.MISSED, ("slow",)), (Verdict.INVALID, ("late",)), (Verdict.PASS, ()))
    missed, invalid, passed = (verdict.Evaluation(*each) for each in kinds)
    assert verdict.worst([missed, invalid, passed]) == invalid
    assert verdict.worst([]).verdict is Verdict.PASS
