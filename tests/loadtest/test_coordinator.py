"""A whole run without locust: its processes and the server are fakes (conftest.py)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pem_loadtest.verdict import Verdict

Fake = Callable[..., Any]


def test_workers_send_what_one_would_and_nothing_of_the_warm_up_counts(fake_workers: Fake) -> None:
    alone = fake_workers("--rate", "20").coordinator.run()
    fake = fake_workers("--rate", "20", workers=3)
    result = fake.coordinator.run()
    assert result.evaluation.verdict is Verdict.PASS
    [step] = result.steps
    assert len(step.samples) == pytest.approx(1200, rel=0.1)
    assert (np.diff(step.samples["due_s"]) >= 0).all()
    assert step.samples["due_s"].min() >= 5
    assert "PASS" in fake.log[0]
    np.testing.assert_array_equal(alone.steps[0].samples["due_s"], step.samples["due_s"])


def test_the_ladder_finds_the_knee_of_a_queue(fake_workers: Fake) -> None:
    fake = fake_workers("--shape", "ladder", "--seconds", "400", workers=2)
    result = fake.coordinator.run()
    assert result.evaluation.verdict is Verdict.PASS
    # Ten million arrivals of M/D/1 with 20 ms have their p99 at 200 ms for 38.6 a second.
    assert result.knee == pytest.approx(38.6, rel=0.06)
    assert len(fake.log) == len({each.number for each in fake.schedules}) == len(result.steps)


@pytest.mark.parametrize(
    ("options", "faults", "verdict", "reason"),
    [
        ("--shape ladder --min-answered 30", {}, Verdict.PASS, ""),  # for the knee, not each step
        ("--shape ladder --min-answered 45", {}, Verdict.MISSED, "the goal is 45"),
        ("--shape ladder --latency-goal 10", {}, Verdict.MISSED, "no rate met the goal"),
        ("--shape ladder --highest-rate 15", {}, Verdict.MISSED, "above --highest-rate"),
        ("--shape spike --rate 20 --spike-factor 4", {}, Verdict.MISSED, "p99 is"),
        ("--shape ladder", {"lateness_ms": 30}, Verdict.INVALID, "sent late"),
        ("", {"lateness_ms": 30}, Verdict.INVALID, "sent late"),
        ("", {"uncounted": 1}, Verdict.INVALID, "the server counted"),
        ("--metrics none", {"uncounted": 1}, Verdict.PASS, ""),
        ("", {"workers": 2, "vanishing": True}, Verdict.INVALID, "worker"),
    ],
)
def test_a_run_passes_misses_a_goal_or_proves_nothing(
    fake_workers: Fake, options: str, faults: dict[str, Any], verdict: Verdict, reason: str
) -> None:
    result = fake_workers("--seconds", "200", *options.split(), **faults).coordinator.run()
    assert result.evaluation.verdict is verdict
    assert reason in "".join(result.evaluation.reasons)
    assert bool(result.evaluation.reasons) is bool(reason)


def test_a_recording_is_replayed_as_it_is(fake_workers: Fake, tmp_path: Path) -> None:
    file = tmp_path / "times"
    file.write_text("\n".join(str(100 + number / 10) for number in range(301)))
    arguments = ["--shape", "replay", "--timestamps", str(file), "--seconds", "20"]
    result = fake_workers(*arguments, workers=2).coordinator.run()
    assert [len(step.samples) for step in result.steps] == [200, 101]
    np.testing.assert_allclose(result.steps[0].samples["due_s"], np.arange(200) / 10, atol=1e-9)


def test_in_a_closed_loop_workers_get_no_arrivals_but_a_time(fake_workers: Fake) -> None:
    fake = fake_workers("--closed", "4", "--seconds", "10", workers=2)
    fake.coordinator.run()
    assert [(len(each.offsets), each.closed_s) for each in fake.schedules] == [(0, 15.0)] * 2
