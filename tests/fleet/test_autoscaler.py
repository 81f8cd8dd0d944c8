"""The autoscaler's formula, against worked examples of the Kubernetes documentation."""

import pytest

from pem_fleet.rehearsal.autoscaler import Autoscaler, Policy, Rules, Scaling, desired, scaled

AT_ONCE = Rules((Policy("Percent", 900, 15.0),), window_s=0.0)


def scaling(minimum=1, maximum=1000, up=AT_ONCE, down=AT_ONCE):
    return Scaling(minimum, maximum, up, down)


def test_replicas_are_the_metrics_share():
    doubled, halved = (600, 100, 3, 6), (300, 200, 3, 2)  # as the documentation: 200m, 50m at 100m
    within_tolerance, beyond_it = ((66, 60, 1, 1), (91, 10, 10, 10)), (66.6, 60, 1, 2)
    none = (0, 10, 10, 0)  # the bounds come later
    for *load, expected in (doubled, halved, *within_tolerance, beyond_it, none):
        assert desired(*load, scaling()) == expected


def replicas(scaling, current, proposals, sync_s=15.0):
    """What an autoscaler decides at each sync."""
    autoscaler, seen = Autoscaler(scaling), []
    for sync, proposal in enumerate(proposals):
        current = autoscaler.sync(sync_s * sync, current, proposal)
        seen.append(current)
    return seen


DOWN = (Policy("Pods", 4, 60.0), Policy("Percent", 10, 60.0))
UP = (Policy("Percent", 100, 15.0), Policy("Pods", 4, 15.0))
TENTH = (Policy("Percent", 10, 60.0),)
DOUBLE = (Policy("Percent", 100, 15.0),)


@pytest.mark.parametrize(
    ("rules", "current", "proposals", "expected"),
    [
        (Rules(DOWN, 0.0), 80, [10], [72]),  # 10%: 8 of 80
        (Rules(DOWN, 0.0), 40, [10], [36]),  # 40 or less: 4 at a time
        (Rules(DOWN, 0.0, "Min"), 80, [10], [76]),
        (Rules(DOWN, 0.0, "Disabled"), 80, [10], [80]),
        (Rules(TENTH, 0.0), 3, [1], [2]),  # 0.3 of a pod is one
        (Rules(UP, 0.0), 3, [20], [7]),
        (Rules(UP, 0.0, "Min"), 3, [20], [6]),
        (Rules(TENTH, 0.0), 3, [20], [4]),  # rounded up, or it would never go
        (Rules(TENTH, 0.0), 10, [20], [11]),  # and 11.000000000000002 is 11
        (Rules(DOUBLE, 0.0), 3, [20] * 4, [6, 12, 20, 20]),  # as a live cluster went
        # A policy counts what changed within its period.
        (Rules((Policy("Pods", 4, 60.0),), 0.0), 1, [20] * 6, [5, 5, 5, 5, 9, 9]),
        # The window up holds the lowest proposal until it is old, the one down the highest.
        (Rules((Policy("Percent", 900, 15.0),), 30.0), 2, [2, 6, 5, 6], [2, 2, 5, 5]),
        (Rules(DOUBLE, 60.0), 10, [10, 4, 7, 4, 4, 4, 4], [10, 10, 10, 10, 7, 7, 4]),
    ],
)
def test_policies_limit_a_step_and_windows_remember(rules, current, proposals, expected):
    assert replicas(scaling(up=rules, down=rules), current, proposals) == expected


def test_the_bounds_hold_and_an_unknown_metric_removes_nothing():
    for current, proposal, expected in ((4, None, 4), (4, 99, 12), (4, 0, 2), (1, 1, 2)):
        assert Autoscaler(scaling(2, 12)).sync(0.0, current, proposal) == expected
    assert Autoscaler(scaling(2, 12)).sync(0.0, 14, None) == 12


def test_scaled_rules_do_the_same_in_less_time():
    rules = scaling(down=Rules((Policy("Pods", 1, 60.0),), window_s=120.0))
    proposals = [6] * 4 + [2] * 36
    slow_run = replicas(rules, 1, proposals)
    assert slow_run == replicas(scaled(rules, 4.0), 1, proposals, sync_s=15.0 / 4)
    assert len(set(slow_run)) > 3  # else nothing was scaled
