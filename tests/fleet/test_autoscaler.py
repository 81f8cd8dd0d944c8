"""The autoscaler's formula, against worked examples of the Kubernetes documentation."""

import itertools

import pytest

from pem_fleet.rehearsal.autoscaler import Autoscaler, Policy, Rules, Scaling, desired, scaled

AT_ONCE = Rules((Policy("Percent", 900, 15.0),), window_s=0.0)


def scaling(minimum=1, maximum=1000, up=AT_ONCE, down=AT_ONCE):
    return Scaling(minimum, maximum, up, down)


@pytest.mark.parametrize(
    ("metric", "threshold", "current", "expected"),
    [
        (600, 100, 3, 6),  # the documentation's 200m at a target of 100m: twice as many
        (300, 200, 3, 2),  # its 50m at 100m: half as many, rounded up
        (66.6, 60, 1, 2),  # 1.11: just over the tolerance
        (66, 60, 1, 1),  # 1.10: within it
        (91, 10, 10, 10),  # 0.91: within it, downwards
        (89, 10, 10, 9),
        (0, 10, 10, 0),  # an idle fleet asks for none; the bounds come later
        (1, 1000, 1, 1),  # never less than one for some load
    ],
)
def test_the_metric_asks_for_its_share_of_replicas(metric, threshold, current, expected):
    assert desired(metric, threshold, current, scaling()) == expected


DOCUMENTED_DOWN = (Policy("Pods", 4, 60.0), Policy("Percent", 10, 60.0))


@pytest.mark.parametrize(
    ("rules", "current", "asked", "expected"),
    [
        (Rules(DOCUMENTED_DOWN, 0.0), 80, 10, 72),  # 10%: 8 of 80
        (Rules(DOCUMENTED_DOWN, 0.0), 72, 10, 64),  # 10% of 72 is 7.2, rounded up
        (Rules(DOCUMENTED_DOWN, 0.0), 40, 10, 36),  # 40 or less: 4 at a time
        (Rules(DOCUMENTED_DOWN, 0.0, "Min"), 80, 10, 76),
        (Rules(DOCUMENTED_DOWN, 0.0, "Disabled"), 80, 10, 80),
        (Rules((), 0.0), 80, 10, 80),
        (Rules((Policy("Percent", 10, 60.0),), 0.0), 3, 1, 2),  # 0.3 of a pod is one
    ],
)
def test_policies_limit_a_step_down(rules, current, asked, expected):
    assert Autoscaler(scaling(down=rules)).sync(0.0, current, [asked]) == expected


@pytest.mark.parametrize(
    ("rules", "current", "asked", "expected"),
    [
        (Rules((Policy("Percent", 100, 15.0), Policy("Pods", 4, 15.0)), 0.0), 3, 20, 7),
        (Rules((Policy("Percent", 100, 15.0), Policy("Pods", 4, 15.0)), 0.0), 6, 20, 12),
        (Rules((Policy("Percent", 100, 15.0), Policy("Pods", 4, 15.0)), 0.0, "Min"), 3, 20, 6),
        (Rules((Policy("Percent", 10, 15.0),), 0.0), 3, 20, 4),  # rounded up, or it would never go
        (Rules((Policy("Percent", 10, 15.0),), 0.0), 10, 20, 11),  # and 11.000000000000002 is 11
        (Rules((Policy("Pods", 4, 15.0),), 0.0, "Disabled"), 3, 20, 3),
    ],
)
def test_policies_limit_a_step_up(rules, current, asked, expected):
    assert Autoscaler(scaling(up=rules)).sync(0.0, current, [asked]) == expected


def test_doubling_every_sync_goes_as_a_live_cluster_went():
    up = Rules((Policy("Percent", 100, 15.0),), 0.0)
    autoscaler, current, seen = Autoscaler(scaling(up=up)), 3, []
    for sync in range(4):
        current = autoscaler.sync(15.0 * sync, current, [20])
        seen.append(current)
    assert seen == [6, 12, 20, 20]


def test_a_policy_counts_what_changed_within_its_period():
    up = Rules((Policy("Pods", 4, 60.0),), 0.0)
    autoscaler, current, seen = Autoscaler(scaling(up=up)), 1, []
    for sync in range(6):
        current = autoscaler.sync(15.0 * sync, current, [20])
        seen.append(current)
    assert seen == [5, 5, 5, 5, 9, 9]


def test_the_window_down_holds_the_highest_proposal_until_it_is_old():
    down = Rules((Policy("Percent", 100, 15.0),), window_s=60.0)
    autoscaler, current, seen = Autoscaler(scaling(down=down)), 10, []
    for sync, asked in enumerate([10, 4, 7, 4, 4, 4, 4, 4]):
        current = autoscaler.sync(15.0 * sync, current, [asked])
        seen.append(current)
    assert seen == [10, 10, 10, 10, 7, 7, 4, 4]


def test_the_window_up_holds_the_lowest_proposal_until_it_is_old():
    up = Rules((Policy("Percent", 900, 15.0),), window_s=30.0)
    autoscaler, current, seen = Autoscaler(scaling(up=up)), 2, []
    for sync, asked in enumerate([2, 6, 5, 6]):
        current = autoscaler.sync(15.0 * sync, current, [asked])
        seen.append(current)
    assert seen == [2, 2, 5, 5]


@pytest.mark.parametrize(
    ("current", "proposals", "expected"),
    [
        (4, [9, 2], 9),  # the greatest of all metrics
        (4, [None, 9], 9),  # one that cannot be read does not keep others from adding
        (4, [None, 2], 4),  # but nothing is removed blindly
        (4, [None], 4),
        (4, [], 4),
        (4, [99], 12),  # not above the maximum
        (4, [0], 2),  # nor below the minimum
        (1, [1], 2),
        (14, [None], 12),
    ],
)
def test_several_metrics_and_the_bounds(current, proposals, expected):
    assert Autoscaler(scaling(2, 12)).sync(0.0, current, proposals) == expected


def test_scaled_rules_do_the_same_in_less_time():
    down = Rules((Policy("Pods", 1, 60.0),), window_s=120.0)
    plain, quick = scaling(down=down), scaled(scaling(down=down), 4.0)
    slow_run, quick_run = (
        timeline(plain, sync_s=15.0),
        timeline(quick, sync_s=15.0 / 4),
    )
    assert slow_run == quick_run
    assert len(set(slow_run)) > 3  # else nothing was scaled


def timeline(rules, sync_s):
    autoscaler, current, seen = Autoscaler(rules), 1, []
    for sync, asked in zip(range(40), itertools.chain([6] * 4, itertools.repeat(2)), strict=False):
        current = autoscaler.sync(sync * sync_s, current, [asked])
        seen.append(current)
    return seen
