"""A whole run without locust: its processes and the server are fakes (conftest.py)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pem_loadtest.verdict import Verdict

Fake = Callable[..., Any]


def test_a_load_below_the_capacity_passes_and_workers_send_what_one_would(
    fake_workers: Fake,
) -> None:
    alone = fake_workers("--rate", "20").coordinator.run()
    fake = fake_workers("--rate", "20", workers=3)
    result = fake.coordinator.run()
    assert result.judgement.verdict is Verdict.PASS
    [step] = result.steps  # the warm-up is not among them
    assert len(step.samples) == pytest.approx(1200, rel=0.1)
    assert (np.diff(step.samples["due_s"]) >= 0).all()
    assert step.samples["due_s"].min() >= 5
    assert "PASS" in fake.log[0]
    np.testing.assert_array_equal(alone.steps[0].samples["due_s"], step.samples["due_s"])


def test_the_ladder_finds_the_knee_of_a_queue(fake_workers: Fake) -> None:
    fake = fake_workers("--shape", "ladder", "--seconds", "400", workers=2)
    result = fake.coordinator.run()
    assert result.judgement.verdict is Verdict.PASS
    # Ten million arrivals of M/D/1 with 20 ms have their p99 at 200 ms for 38.6 a second.
    assert result.knee == pytest.approx(38.6, rel=0.06)
    assert len(fake.log) == len(result.steps)
    assert len({each.number for each in fake.schedules}) == len(result.steps)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--min-answered", "30"], None),  # a goal for the knee, not for the steps on the way
        (["--min-answered", "45"], "the goal is 45"),
        (["--latency-goal", "10"], "no rate met the goal"),
        (["--highest-rate", "15"], "above --highest-rate"),
    ],
)
def test_a_ladder_passes_with_a_knee_that_meets_the_goals(
    fake_workers: Fake, options: list[str], reason: str | None
) -> None:
    result = fake_workers("--shape", "ladder", "--seconds", "200", *options).coordinator.run()
    assert result.judgement.verdict is (Verdict.MISSED if reason else Verdict.PASS)
    assert (reason or "") in "".join(result.judgement.reasons)


@pytest.mark.parametrize(
    ("options", "faults", "reason"),
    [
        ([], {"lateness_ms": 30}, "sent late"),
        (["--shape", "ladder"], {"lateness_ms": 30}, "sent late"),
        ([], {"uncounted": 1}, "the server counted"),
        ([], {"workers": 2, "vanishing": True}, "worker"),
    ],
)
def test_what_proves_nothing_is_invalid(
    fake_workers: Fake, options: list[str], faults: dict[str, Any], reason: str
) -> None:
    result = fake_workers(*options, **faults).coordinator.run()
    assert result.judgement.verdict is Verdict.INVALID
    assert reason in result.judgement.reasons[0]


def test_without_metrics_nothing_is_compared(fake_workers: Fake) -> None:
    result = fake_workers("--metrics", "none", uncounted=1).coordinator.run()
    assert result.judgement.verdict is Verdict.PASS
    assert result.steps[0].server == {}


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
