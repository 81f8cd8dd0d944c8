"""A whole run without locust: its processes and the server are fakes (conftest.py)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pem_loadtest.verdict import Verdict

Fake = Callable[..., Any]


@pytest.mark.parametrize("workers", [1, 3])
def test_a_load_below_the_capacity_passes_whatever_the_number_of_workers(
    fake_workers: Fake, workers: int
) -> None:
    fake = fake_workers("--rate", "20", workers=workers)
    result = fake.coordinator.run()
    assert result.judgement.verdict is Verdict.PASS
    [step] = result.steps  # the warm-up is not among them
    assert len(step.samples) == pytest.approx(1200, rel=0.1)
    assert (np.diff(step.samples["due_s"]) >= 0).all()
    assert step.samples["due_s"].min() >= 5
    assert "PASS" in fake.log[0]


def test_workers_together_send_what_one_would(fake_workers: Fake) -> None:
    one, three = (fake_workers("--rate", "20", workers=n).coordinator.run() for n in (1, 3))
    np.testing.assert_array_equal(one.steps[0].samples["due_s"], three.steps[0].samples["due_s"])


def test_a_load_above_the_capacity_misses_the_goal(fake_workers: Fake) -> None:
    result = fake_workers("--rate", "60").coordinator.run()
    assert result.judgement.verdict is Verdict.MISSED


def test_the_ladder_finds_the_knee_of_a_queue(fake_workers: Fake) -> None:
    fake = fake_workers("--shape", "ladder", "--seconds", "400", workers=2)
    result = fake.coordinator.run()
    assert result.judgement.verdict is Verdict.PASS
    # Ten million arrivals of M/D/1 with 20 ms have their p99 at 200 ms for 38.6 a second.
    assert result.knee == pytest.approx(38.6, rel=0.06)
    assert len(fake.log) == len(result.steps)
    assert len({each.number for each in fake.schedules}) == len(result.steps)


@pytest.mark.parametrize(("asked", "verdict"), [("30", Verdict.PASS), ("45", Verdict.MISSED)])
def test_a_goal_for_the_rate_is_one_for_the_knee(
    fake_workers: Fake, asked: str, verdict: Verdict
) -> None:
    ladder = ["--shape", "ladder", "--seconds", "200", "--min-answered", asked]
    result = fake_workers(*ladder).coordinator.run()
    assert result.judgement.verdict is verdict
    assert result.knee == pytest.approx(38.6, rel=0.15)


def test_a_ladder_whose_goal_no_rate_meets_finds_no_knee(fake_workers: Fake) -> None:
    result = fake_workers("--shape", "ladder", "--latency-goal", "10").coordinator.run()
    assert (result.knee, result.judgement.verdict) == (None, Verdict.MISSED)


def test_in_a_closed_loop_workers_get_no_arrivals_but_a_time(fake_workers: Fake) -> None:
    fake = fake_workers("--closed", "4", "--seconds", "10", workers=2)
    fake.coordinator.run()
    assert [(len(each.offsets), each.closed_s) for each in fake.schedules] == [(0, 15.0)] * 2


def test_a_ladder_that_ends_below_the_knee_says_so(fake_workers: Fake) -> None:
    result = fake_workers("--shape", "ladder", "--highest-rate", "15").coordinator.run()
    assert result.judgement.verdict is Verdict.MISSED
    assert "above --highest-rate" in result.judgement.reasons[0]


@pytest.mark.parametrize("shape", ["constant", "ladder"])
def test_late_sending_makes_the_run_invalid(fake_workers: Fake, shape: str) -> None:
    result = fake_workers("--shape", shape, lateness_ms=30).coordinator.run()
    assert result.judgement.verdict is Verdict.INVALID
    assert "sent late" in result.judgement.reasons[0]
    assert len(result.steps) == 1, "the step is there to be looked at"


def test_successes_that_the_server_did_not_count_make_the_run_invalid(
    fake_workers: Fake,
) -> None:
    result = fake_workers(uncounted=1).coordinator.run()
    assert result.judgement.verdict is Verdict.INVALID
    assert "the server counted" in result.judgement.reasons[0]


def test_without_metrics_nothing_is_compared(fake_workers: Fake) -> None:
    result = fake_workers("--metrics", "none", uncounted=1).coordinator.run()
    assert result.judgement.verdict is Verdict.PASS
    assert result.steps[0].server == {}


def test_a_worker_that_vanishes_makes_the_run_invalid(fake_workers: Fake) -> None:
    result = fake_workers(workers=2, vanishing=True).coordinator.run()
    assert result.judgement.verdict is Verdict.INVALID
    assert "worker" in result.judgement.reasons[0]


def test_a_recording_is_replayed_as_it_is(fake_workers: Fake, tmp_path: Path) -> None:
    file = tmp_path / "times"
    file.write_text("\n".join(str(100 + number / 10) for number in range(301)))
    arguments = ["--shape", "replay", "--timestamps", str(file), "--seconds", "20"]
    result = fake_workers(*arguments, workers=2).coordinator.run()
    assert [len(step.samples) for step in result.steps] == [200, 101]
    np.testing.assert_allclose(result.steps[0].samples["due_s"], np.arange(200) / 10, atol=1e-9)


def test_a_spike_is_judged_in_its_three_parts(fake_workers: Fake) -> None:
    spike = ["--shape", "spike", "--rate", "20", "--spike-factor", "4"]
    result = fake_workers(*spike).coordinator.run()
    verdicts = {step.step.label: step.judgement.verdict for step in result.steps}
    assert verdicts["before"] is Verdict.PASS
    assert verdicts["spike"] is Verdict.MISSED
    assert result.judgement.verdict is Verdict.MISSED
