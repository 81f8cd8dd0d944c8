"""The simulated server against queueing theory and cases that are worked out by hand."""

from pathlib import Path

import pytest

from pem_fleet.queueing.knee import Goal, find_knee, run
from pem_fleet.queueing.served_steps import T4_COSTS, Cost, Step, read_steps
from pem_fleet.queueing.server_model import Clock, Server

NETWORK = "pem_network"


@pytest.mark.parametrize("load", [0.3, 0.5, 0.8])
def test_one_process_without_batches_waits_as_long_as_theory_says(load):
    service_s = 0.01
    seen = run([Step(NETWORK, Cost(service_s, 0.0))], load / service_s, images=40_000)
    waited = seen.latencies.mean() - service_s
    # M/D/1: half of what exponential service times would make.
    assert waited == pytest.approx(service_s * load / (2 * (1 - load)), rel=0.05)


def answers(steps, arrivals):
    """Return the latencies of images that arrive at these times, all in milliseconds; counters."""
    clock = Clock()
    server = Server(clock, steps)
    for at in arrivals:
        clock.after(at / 1e3, server.put)
    clock.run(until=10.0)
    return [round(1e3 * each, 3) for each in server.latencies], server.counters


def test_images_that_come_during_a_batch_are_the_next_batch():
    step = Step(NETWORK, Cost(0.010, 0.005), max_batch=8)
    latencies, counters = answers([step], [0, 1, 2, 3])
    # 0 alone until 15; then the other three until 15 + 10 + 3 x 5 = 40.
    assert latencies == [15, 39, 38, 37]
    assert (counters.batches, counters.batched, counters.answered) == (2, 4, 4)
    assert counters.queue_s == pytest.approx(0.014 + 0.013 + 0.012)
    assert counters.compute_s == pytest.approx(0.015 + 3 * 0.025)  # charged to each image


def test_a_batch_waits_for_its_delay_unless_it_is_full():
    step = Step(NETWORK, Cost(0.0, 0.001), max_batch=2, delay_s=0.020)
    assert answers([step], [0])[0] == [21]
    assert answers([step], [0, 5])[0] == [7, 2]


def test_two_processes_work_side_by_side():
    assert answers([Step(NETWORK, Cost(0.010, 0.0), processes=2)], [0, 0, 0])[0] == [10, 10, 20]


def test_a_full_queue_refuses_and_the_next_step_never_sees_it():
    first = Step("pem_preprocess", Cost(0.010, 0.0), queue_limit=1)
    latencies, counters = answers([first, Step(NETWORK, Cost(0.001, 0.0))], [0, 1, 2])
    # 0 is worked on, 1 waits until Triton looks again, 2 is refused.
    assert latencies == [11, 510]
    assert (counters.refused, counters.answered, counters.offered) == (1, 2, 3)
    assert counters.batched == 2


def test_too_many_decoded_images_refuse_others_before_they_are_decoded():
    first = Step("pem_preprocess", Cost(0.001, 0.0), waiting_limit=2)
    latencies, counters = answers([first, Step(NETWORK, Cost(0.1, 0.0))], [0, 10, 20, 30, 130])
    # 0 is in the network, 10 and 20 wait for it, 30 is refused; at 130 one of them waits.
    assert latencies == [101, 191, 281, 271]
    assert (counters.refused, counters.answered, counters.offered) == (1, 4, 5)


def test_a_limited_queue_is_looked_at_every_half_second_or_at_an_arrival_that_it_takes():
    roomy, full = (Step(NETWORK, Cost(0.010, 0.0), queue_limit=limit) for limit in (2, 1))
    # 20 finds the process free; the batcher then finds 20 still waiting and stays until it can go.
    assert answers([roomy], [0, 1, 20])[0] == [10, 29, 20]
    assert answers([full], [0, 1, 20])[0] == [10, 509]
    assert answers([roomy], [0, 1])[0] == [10, 509]


def test_a_batcher_that_waits_for_a_free_process_keeps_others_out_of_its_batch():
    free = Step(NETWORK, Cost(0.010, 0.0), max_batch=2)
    limited = Step(NETWORK, Cost(0.010, 0.0), max_batch=2, queue_limit=5)
    # 20 wakes the batcher: 1 and 2 go. It waits with 20, so 21 and 22 cannot join that batch.
    arrivals = [0, 1, 2, 20, 21, 22]
    assert answers([free], arrivals)[0] == [10, 19, 18, 10, 19, 18]
    latencies, counters = answers([limited], arrivals)
    assert latencies == [10, 29, 28, 20, 29, 28]
    assert counters.batches == 4


def test_what_waited_too_long_is_refused():
    step = Step(NETWORK, Cost(0.1, 0.0), timeout_s=0.05)
    latencies, counters = answers([step], [0, 10, 200])
    assert latencies == [100, 100]
    assert counters.refused == 1


def test_an_overloaded_queue_answers_what_full_batches_allow_with_either_limit():
    free = Step(NETWORK, Cost(0.04, 0.02), max_batch=8)
    admitting = [Step("pem_preprocess", Cost(0.0, 0.001), waiting_limit=32), free]
    assert free.most == pytest.approx(40)  # 8 images in 200 ms
    assert run([free], 60).throughput == pytest.approx(free.most, rel=0.02)
    seen = run(admitting, 60)
    assert seen.throughput == pytest.approx(free.most, rel=0.02)
    assert seen.loss == pytest.approx(1 - free.most / 60, rel=0.1)


def test_the_knee_is_the_last_rate_that_meets_the_goal():
    step = Step(NETWORK, Cost(0.010, 0.005), max_batch=8)
    goal = Goal(0.2)
    knee = find_knee([step], goal)
    assert goal.is_met(run([step], 0.98 * knee, images=12_000))
    assert not goal.is_met(run([step], 1.05 * knee, images=12_000))
    assert find_knee([step], Goal(0.001)) == 0


def test_the_steps_are_those_of_the_repository(root: Path):
    preprocess, network, postprocess = read_steps(root / "model_repository", "t4", T4_COSTS)
    assert (preprocess.processes, preprocess.queue_limit, preprocess.max_batch) == (3, 64, 8)
    assert (network.delay_s, network.max_batch, network.queue_limit) == (0.002, 8, 0)
    assert postprocess.max_batch == 1  # no dynamic batching: one at a time
    assert (preprocess.waiting_limit, preprocess.prefetches) == (0, False)
    on_a_cpu = read_steps(root / "model_repository", None, T4_COSTS)
    assert (on_a_cpu[0].waiting_limit, on_a_cpu[1].max_batch) == (32, 1)
    stub = read_steps(root / "model_repository", None, T4_COSTS, batching=True)
    assert [step.max_batch for step in stub] == [1, 8, 1]
    assert all(step.prefetches for step in on_a_cpu)
    with pytest.raises(ValueError, match="none for pem_postprocess"):
        read_steps(root / "model_repository", "t4", dict(list(T4_COSTS.items())[:2]))
