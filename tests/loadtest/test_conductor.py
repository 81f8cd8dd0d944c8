"""A whole run without locust: the processes are a simulated server with a known capacity."""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pem_loadtest import conductor as module
from pem_loadtest.conductor import Conductor, RunResult
from pem_loadtest.counters import Counts
from pem_loadtest.options import add_options, read_settings
from pem_loadtest.player import Play
from pem_loadtest.samples import RECORD, Outcome
from pem_loadtest.verdict import Verdict

SUCCESSES = ("nv_inference_request_success", "fai-pem-m-ade")


class Simulation:
    """Stands for locust's workers and the server: one queue, 20 ms an image, no variation.

    lateness_ms: how late everything is sent. uncounted: successes that the server forgets.
    """

    def __init__(self, workers: int, lateness_ms: float = 0.0, uncounted: int = 0) -> None:
        self.names: list[str | None] = [f"worker {number}" for number in range(workers)]
        self.plays: list[Play] = []
        self.counts: Counts = Counts()
        self._lateness_ms, self._uncounted = lateness_ms, uncounted
        self._orders: list[Play] = []

    def send_message(
        self, msg_type: str, data: dict[str, Any], client_id: str | None = None
    ) -> None:
        assert (msg_type, client_id) == (module.PLAY, self.names[len(self._orders)])
        self._orders.append(Play.from_message(data))
        if len(self._orders) == len(self.names):
            orders, self._orders = self._orders, []
            self.plays += orders
            for order, latencies in zip(orders, self._serve(orders), strict=True):
                self.conductor.on_ended(order.number, self._log(order, latencies))

    def _serve(self, orders: list[Play]) -> list[list[float]]:
        arrivals = sorted((due, who) for who, order in enumerate(orders) for due in order.offsets)
        free_at, latencies = 0.0, [[] for _ in orders]
        for due, who in arrivals:
            free_at = max(free_at, due) + 0.02
            latencies[who].append((free_at - due) * 1e3)
        self.counts[SUCCESSES] += len(arrivals) - self._uncounted
        return latencies

    def _log(self, order: Play, latencies: list[float]) -> bytes:
        late = self._lateness_ms
        return b"".join(
            RECORD.pack(due, latency + late, late, Outcome.ANSWERED, 0, False)
            for due, latency in zip(order.offsets, latencies, strict=True)
        )


def run(
    monkeypatch: pytest.MonkeyPatch, simulation: Simulation, *arguments: str
) -> tuple[RunResult, list[str]]:
    """(the result, what was said) of a run that waits for nothing."""
    parser = argparse.ArgumentParser()
    add_options(parser)
    defaults = ["--latency-goal", "200", "--seconds", "60", "--warm-up", "5"]
    settings = read_settings(parser.parse_args([*defaults, *arguments]))
    said: list[str] = []
    monkeypatch.setattr(module, "sleep", lambda _: None)
    monkeypatch.setattr(module.counters, "scrape", lambda _: simulation.counts.copy())
    monkeypatch.setattr(module.counters.time, "sleep", lambda _: None)
    simulation.conductor = Conductor(settings, simulation, lambda: simulation.names, said.append)
    return simulation.conductor.conduct(), said


@pytest.mark.parametrize("workers", [1, 3])
def test_a_load_below_the_capacity_passes_whatever_the_number_of_workers(
    monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    result, [line] = run(monkeypatch, Simulation(workers), "--rate", "20")
    assert result.judgement.verdict is Verdict.PASS
    [step] = result.steps  # the warm-up is not among them
    assert len(step.samples) == pytest.approx(1200, rel=0.1)
    assert (np.diff(step.samples["due_s"]) >= 0).all()
    assert step.samples["due_s"].min() >= 5
    assert "PASS" in line


def test_workers_together_send_what_one_would(monkeypatch: pytest.MonkeyPatch) -> None:
    (one, _), (three, _) = (run(monkeypatch, Simulation(n), "--rate", "20") for n in (1, 3))
    np.testing.assert_array_equal(one.steps[0].samples["due_s"], three.steps[0].samples["due_s"])


def test_a_load_above_the_capacity_misses_the_goal(monkeypatch: pytest.MonkeyPatch) -> None:
    result, _ = run(monkeypatch, Simulation(1), "--rate", "60")
    assert result.judgement.verdict is Verdict.MISSED


def test_the_ladder_finds_the_knee_of_a_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    simulation = Simulation(2)
    result, said = run(monkeypatch, simulation, "--shape", "ladder", "--seconds", "400")
    assert result.judgement.verdict is Verdict.PASS
    # Ten million arrivals of M/D/1 with 20 ms have their p99 at 200 ms for 38.6 a second.
    assert result.knee == pytest.approx(38.6, rel=0.06)
    assert len(said) == len(result.steps)
    assert len({play.number for play in simulation.plays}) == len(result.steps)


@pytest.mark.parametrize(("asked", "verdict"), [("30", Verdict.PASS), ("45", Verdict.MISSED)])
def test_a_goal_for_the_rate_is_one_for_the_knee(
    monkeypatch: pytest.MonkeyPatch, asked: str, verdict: Verdict
) -> None:
    ladder = ["--shape", "ladder", "--seconds", "200", "--min-answered", asked]
    result, _ = run(monkeypatch, Simulation(1), *ladder)
    assert result.judgement.verdict is verdict
    assert result.knee == pytest.approx(38.6, rel=0.15)


def test_a_ladder_whose_goal_no_rate_meets_finds_no_knee(monkeypatch: pytest.MonkeyPatch) -> None:
    result, _ = run(monkeypatch, Simulation(1), "--shape", "ladder", "--latency-goal", "10")
    assert (result.knee, result.judgement.verdict) == (None, Verdict.MISSED)


def test_a_ladder_that_ends_below_the_knee_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    result, _ = run(monkeypatch, Simulation(1), "--shape", "ladder", "--highest-rate", "15")
    assert result.judgement.verdict is Verdict.MISSED
    assert "above --highest-rate" in result.judgement.reasons[0]


@pytest.mark.parametrize("shape", ["constant", "ladder"])
def test_late_sending_makes_the_run_invalid(monkeypatch: pytest.MonkeyPatch, shape: str) -> None:
    result, _ = run(monkeypatch, Simulation(1, lateness_ms=30), "--shape", shape)
    assert result.judgement.verdict is Verdict.INVALID
    assert "sent late" in result.judgement.reasons[0]
    assert len(result.steps) == 1, "the step is there to be looked at"


def test_successes_that_the_server_did_not_count_make_the_run_invalid(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module.counters, "_SETTLING_S", 0.0)
    result, _ = run(monkeypatch, Simulation(1, uncounted=1))
    assert result.judgement.verdict is Verdict.INVALID
    assert "the server counted" in result.judgement.reasons[0]


def test_without_metrics_nothing_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    result, _ = run(monkeypatch, Simulation(1, uncounted=1), "--metrics", "none")
    assert result.judgement.verdict is Verdict.PASS
    assert result.steps[0].server == {}


def test_a_worker_that_vanishes_makes_the_run_invalid(monkeypatch: pytest.MonkeyPatch) -> None:
    simulation = Simulation(2)
    send = simulation.send_message

    def send_and_die(*arguments: Any) -> None:
        send(*arguments)
        if not simulation._orders:
            simulation.names = simulation.names[:1]

    monkeypatch.setattr(simulation, "send_message", send_and_die)
    result, _ = run(monkeypatch, simulation)
    assert result.judgement.verdict is Verdict.INVALID
    assert "vanished" in result.judgement.reasons[0]


def test_a_recording_is_played_as_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "times"
    file.write_text("\n".join(str(100 + number / 10) for number in range(301)))
    arguments = ["--shape", "replay", "--timestamps", str(file), "--seconds", "20"]
    result, _ = run(monkeypatch, Simulation(2), *arguments)
    assert [len(step.samples) for step in result.steps] == [200, 101]
    np.testing.assert_allclose(result.steps[0].samples["due_s"], np.arange(200) / 10, atol=1e-9)


def test_a_spike_is_judged_in_its_three_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    result, _ = run(
        monkeypatch, Simulation(1), "--shape", "spike", "--rate", "20", "--spike-factor", "4"
    )
    verdicts = {step.step.label: step.judgement.verdict for step in result.steps}
    assert verdicts["before"] is Verdict.PASS
    assert verdicts["spike"] is Verdict.MISSED
    assert result.judgement.verdict is Verdict.MISSED
