"""The simulated loop: its delays, its machines, and flows against single images."""

import simpy

from pem_fleet import sizing
from pem_fleet.arrivals import stairs
from pem_fleet.autoscaler import Policy, Rules, Scaling
from pem_fleet.control import Delays, Loop
from pem_fleet.queueing import Counters
from pem_fleet.service import EveryImage, Flow, Table
from pem_fleet.signals import Window, demand, public
from pem_fleet.sizing import Outcome, bounds, pick_target
from pem_fleet.steps import Cost, Step

STEPS = (Step("pem_network", Cost(0.010, 0.010), max_batch=8, queue_limit=64),)
AT_ONCE = Rules((Policy("Percent", 900, 15.0),), window_s=0.0)
SCALING = Scaling(1, 20, AT_ONCE, AT_ONCE)


class Steady:
    """Servers that see a constant demand and answer everything."""

    def __init__(self, clock, rate):
        self.clock, self.rate, self.ready, self.pending = clock, rate, 0, 0.0

    def resize(self, count):
        self.ready = count

    def counters(self):
        done = self.rate * self.clock.now
        return Counters(offered=done, accepted=done, answered=done)


def loop_of(rate, delays, start=1, scaling=SCALING):
    clock = simpy.Environment()
    service = Steady(clock, rate)
    return clock, service, Loop(clock, service, scaling, demand(10.0), delays, start=start)


def test_a_server_is_there_after_decision_machine_and_engine():
    clock, service, loop = loop_of(40.0, Delays(machine_s=100.0, load_s=20.0))
    clock.run(until=139.9)
    assert [moment.asked for moment in loop.timeline][:2] == [4, 4]  # decided at 15 s
    assert service.ready == 1  # ordered at the next scan, 20 s; there at 120, loaded at 140
    clock.run(until=140.1)
    assert service.ready == 4


def test_a_warm_machine_saves_the_wait_for_it():
    clock, service, _ = loop_of(20.0, Delays(machine_s=100.0, load_s=20.0, warm_share=1.0))
    clock.run(until=35.1)
    assert service.ready == 2


def test_a_machine_is_paid_for_from_its_order_until_ten_idle_minutes_are_over():
    delays = Delays(machine_s=100.0, load_s=20.0)
    clock, _, loop = loop_of(10.0, delays, start=3)  # one is enough from the first decision on
    clock.run(until=1999.0)
    # 3 machines for 15 s in use and 600 s idle, rounded up to the scan, then one.
    assert loop.machine_seconds == 3 * 620 + 1 * 1380
    assert loop.timeline[-1].machines == 1


def test_flows_say_what_single_images_say():
    rate, seconds = stairs([(300.0, 100.0), (600.0, 260.0), (900.0, 100.0)]), 1800.0
    delays = Delays(machine_s=60.0, load_s=20.0)
    table = Table(STEPS, goal_s=0.25)
    loops, seen = [], []
    for make in (
        lambda clock: EveryImage(clock, STEPS, 0.25, rate, 260.0, seconds),
        lambda clock: Flow(clock, table, rate, seconds),
    ):
        clock = simpy.Environment()
        service = make(clock)
        loops.append(Loop(clock, service, SCALING, demand(45.0), delays, start=3))
        clock.run(until=seconds)
        seen.append(service.counters())
    images, flow = seen
    assert abs(images.offered - flow.offered) < 0.02 * images.offered
    assert 0.01 < images.missed / images.offered < 0.2  # else there is nothing to compare
    assert abs(images.missed - flow.missed) < 0.03 * images.offered
    apart = [
        abs(one.asked - other.asked)
        for one, other in zip(loops[0].timeline, loops[1].timeline, strict=True)
    ]
    assert sum(apart) / len(apart) < 0.4
    assert max(moment.asked for moment in loops[0].timeline) >= 6


def test_what_is_refused_counts_as_demand_or_an_overload_looks_like_a_full_load():
    """One server that is full accepts what it can: the fleet then grows to the load in steps."""
    scaling = Scaling(1, 25, AT_ONCE, AT_ONCE)
    fleet = sizing.Fleet(STEPS, Table(STEPS, 0.25), 60.0, scaling, Delays())
    load = sizing.Load("a leap", stairs([(900.0, 20.0), (3600.0, 1000.0)]), 1000.0, 3600.0)
    ours, blind = (
        sizing.simulate(fleet, load, signal)
        for signal in (demand(40.0), public(40.0)["accepted only"])
    )
    assert ours.form == blind.form == "flow"
    seen = [max(m.asked for m in each.timeline if 900 < m.at < 980) for each in (ours, blind)]
    assert seen[0] > 2 * seen[1], seen
    assert blind.refused > 1.5 * ours.refused, (blind.refused, ours.refused)


def window(**given):
    plain = dict.fromkeys(
        ("offered", "accepted", "batched", "batches", "queue", "compute", "busy", "pending"), 0.0
    )
    return Window(**{**plain, "ready": 4, **given})


def test_signals_of_public_charts_are_their_formulas():
    charts = public(50.0)
    busy = window(accepted=100.0, offered=120.0, pending=60.0, batched=100.0, batches=25.0)
    assert demand(50.0).total(busy) == 120 + 60 / 30
    assert charts["accepted only"].total(busy) == 102
    assert charts["pending"].total(busy) == 60
    seen = window(batched=100.0, batches=25.0, queue=2.0, compute=4.0, busy=2.0)
    assert charts["queue time"].total(seen) == 4 * 20_000  # microseconds an image, times servers
    assert charts["queue/compute"].total(seen) == 4 * 0.5
    assert charts["queue a batch"].total(seen) == 4 * 80
    assert charts["GPU busy"].total(seen) == 4 * 50  # percent
    assert charts["queue time"].total(window()) == 0  # nothing arrives


def outcome(target, missed, cost):
    return Outcome("", 1.0, "demand", target, "flow", missed, 0.0, 1.0, 1.0, cost, 1, 0, ())


def test_the_cheapest_target_within_the_allowance_is_picked():
    tried = [outcome(0.5, 0.001, 30.0), outcome(0.6, 0.009, 20.0), outcome(0.7, 0.02, 10.0)]
    assert pick_target(tried, 0.01).target == 0.6
    assert pick_target(tried, 0.0001).target == 0.5  # none is: the one that misses least
    assert pick_target(tried, 0.5).target == 0.7


def test_bounds_carry_the_lowest_load_and_the_peak():
    fleet = sizing.Fleet(STEPS, None, 100.0, SCALING, Delays(), 0.5)
    assert bounds(fleet, 10.0, 1000.0, 0.5) == (2, 27)
    assert bounds(fleet, 500.0, 1000.0, 0.5) == (11, 27)
    assert bounds(fleet, 0.0, 1.0, 0.5) == (2, 3)
