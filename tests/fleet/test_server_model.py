"""The simulated server against queueing theory, cases by hand, and a ladder's report."""

import json

import pytest

from pem_fleet import cli
from pem_fleet.queueing.knee import Goal, find_knee, run
from pem_fleet.queueing.served_steps import T4_COSTS, Cost, Step, read_steps
from pem_fleet.queueing.server_model import Clock, Server

TWICE = [0, 1, 2, 20, 21, 22]


def test_one_process_without_batches_waits_as_long_as_theory_says():
    for load in (0.3, 0.5, 0.8):
        waited = run([network(10)], 100 * load, images=40_000).latencies.mean() - 0.01
        # M/D/1: half of what exponential service times would make.
        assert waited == pytest.approx(0.01 * load / (2 * (1 - load)), rel=0.05)


def network(fixed_ms, each_ms=0, name="pem_network", **limits):
    return Step(name, Cost(fixed_ms / 1e3, each_ms / 1e3), **limits)


def decoder(*cost_ms, **limits):
    return network(*cost_ms, name="pem_preprocess", **limits)


def answers(steps, arrivals):
    """Return the latencies of images that arrive at these times, all in milliseconds; counters."""
    clock = Clock()
    server = Server(clock, steps)
    for at in arrivals:
        clock.after(at / 1e3, server.put)
    clock.run(until=10.0)
    return [round(1e3 * each, 3) for each in server.latencies], server.counters


def test_images_that_come_during_a_batch_are_the_next_batch():
    latencies, counters = answers([network(10, 5, max_batch=8)], [0, 1, 2, 3])
    # 0 alone until 15; then the other three until 15 + 10 + 3 x 5 = 40.
    assert latencies == [15, 39, 38, 37]
    assert (counters.batches, counters.batched) == (2, 4)
    assert counters.queue_s == pytest.approx(0.014 + 0.013 + 0.012)
    assert counters.compute_s == pytest.approx(0.015 + 3 * 0.025)  # charged to each image


@pytest.mark.parametrize(
    ("steps", "arrivals", "latencies"),
    [
        # A batch waits for its delay unless it is full.
        ([network(0, 1, max_batch=2, delay_s=0.02)], [0], [21]),
        ([network(0, 1, max_batch=2, delay_s=0.02)], [0, 5], [7, 2]),
        ([network(10, processes=2)], [0, 0, 0], [10, 10, 20]),
        # 0 is worked on, 1 waits until Triton looks again, 2 is refused.
        ([decoder(10, queue_limit=1), network(1)], [0, 1, 2], [11, 510]),
        # Two of 2 s are inside, so that 20 would be answered after 6 s; at 2130 one of them is.
        ([decoder(1), network(2000)], [0, 10, 20, 2130], [2001, 3991, 3871]),
        # 20 finds the process free; the batcher then finds 20 still waiting and stays until it can
        # go. A limited queue is looked at every half second, or at an arrival that it takes.
        ([network(10, queue_limit=2)], [0, 1, 20], [10, 29, 20]),
        ([network(10, queue_limit=1)], [0, 1, 20], [10, 509]),
        ([network(10, queue_limit=2)], [0, 1], [10, 509]),
        ([network(10, max_batch=2)], TWICE, [10, 19, 18, 10, 19, 18]),
        # 20 wakes the batcher: 1 and 2 go. It waits with 20, so 21 and 22 cannot join that batch.
        ([network(10, max_batch=2, queue_limit=5)], TWICE, [10, 29, 28, 20, 29, 28]),
        ([network(100, timeout_s=0.05)], [0, 10, 200], [100, 100]),  # 10 waited too long
    ],
)
def test_queues_batches_and_refusals(steps, arrivals, latencies):
    seen, counters = answers(steps, arrivals)
    assert seen == latencies
    assert (counters.offered, counters.answered) == (len(arrivals), len(latencies))
    assert counters.refused == len(arrivals) - len(latencies)
    assert counters.batched == len(latencies)  # the network never sees what is refused before it


def test_an_overloaded_queue_answers_what_full_batches_allow_with_either_limit():
    step = network(40, 20, max_batch=8)
    seen = run([decoder(0, 1), step], 60)
    for throughput in (step.most, run([step], 60).throughput, seen.throughput):
        assert throughput == pytest.approx(40, rel=0.02)  # 8 images in 200 ms
    assert seen.loss == pytest.approx(1 - 40 / 60, rel=0.1)


def test_the_knee_is_the_last_rate_that_meets_the_goal():
    steps, goal = [network(10, 5, max_batch=8)], Goal(0.2)
    knee = find_knee(steps, goal)
    assert goal.is_met(run(steps, 0.98 * knee, images=12_000))
    assert not goal.is_met(run(steps, 1.05 * knee, images=12_000))
    assert find_knee(steps, Goal(0.001)) == 0


def test_the_steps_are_those_of_the_repository(root):
    first, second, third = read_steps(root / "model_repository", "t4", T4_COSTS)
    assert (first.processes, first.queue_limit, first.max_batch) == (3, 64, 8)
    assert not first.prefetches
    assert (second.delay_s, second.max_batch, second.queue_limit) == (0.002, 8, 0)
    assert third.max_batch == 1  # no dynamic batching: one at a time
    on_a_cpu = read_steps(root / "model_repository", None, T4_COSTS)
    assert on_a_cpu[1].max_batch == 1
    assert all(step.prefetches for step in on_a_cpu)
    stub = read_steps(root / "model_repository", None, T4_COSTS, batching=True)
    assert [step.max_batch for step in stub] == [1, 8, 1]


COSTS = {"pem_preprocess": Cost(0.0, 0.005), "pem_network": Cost(0.040, 0.020)}
COSTS["pem_postprocess"] = Cost(0.0, 0.002)
OVERHEAD_S = 0.003
SETTINGS = {"latency_goal": 800.0, "percentile": 99.0, "max_failures": 0.001, "broken": 0.0}
GOAL = Goal(0.8, 0.99, 0.001)


def rung(steps, rate):
    """One step of a load test's report."""
    seen = run(steps, rate, images=3000, overhead_s=OVERHEAD_S)
    times = {name: cost.seconds(1) for name, cost in COSTS.items()}
    times["pem_network"] = seen.counters.compute_s / seen.counters.batched
    server = {name: {"batch": 1.0, "compute_ms": 1e3 * each} for name, each in times.items()}
    server["pem_network"]["batch"] = seen.counters.mean_batch
    return {"rate": rate, "p50_ms": 1e3 * seen.quantile(0.5), "server": server}


def test_the_exit_code_is_whether_they_agree(root, tmp_path, capsys):
    """Broken images load no queue: with a fifth of them, the knee is higher by as much."""
    steps = read_steps(root / "model_repository", None, COSTS, batching=True)
    path, knee = tmp_path / "report.json", find_knee(steps, GOAL, overhead_s=OVERHEAD_S)
    ladder = {"knee_images_per_second": knee, "settings": SETTINGS}
    ladder["steps"] = [rung(steps, rate) for rate in (4.0, 16.0, 24.0, 28.0)]
    more = [{**step, "rate": step["rate"] / 0.8} for step in ladder["steps"]]
    sent = {"knee_images_per_second": knee / 0.8, "steps": more}
    fifth = {"settings": SETTINGS | {"broken": 0.2}}
    for changes, code, shown in (
        ({}, 0, f"measured {knee:.1f}"),
        (sent | fifth, 0, f"measured {knee / 0.8:.1f}"),
        (sent, 1, "measured"),
        ({"knee_images_per_second": None}, 1, "--shape ladder"),
    ):
        path.write_text(json.dumps(ladder | changes))
        assert cli.main(["simulate", "--config", "cpu", "--check", str(path)]) == code
        assert shown in "".join(capsys.readouterr())
