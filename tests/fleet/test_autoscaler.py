"""The autoscaler's formula, against worked examples of the Kubernetes documentation."""

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
        (0, 10, 10, 0),  # the bounds come later
        (1, 1000, 1, 1),  # never less than one for some load
    ],
)
def test_replicas_are_the_metrics_share(metric, threshold, current, expected):
    assert desired(metric, threshold, current, scaling()) == expected


DOWN = (Policy("Pods", 4, 60.0), Policy("Percent", 10, 60.0))
UP = (Policy("Percent", 100, 15.0), Policy("Pods", 4, 15.0))
TENTH = (Policy("Percent", 10, 60.0),)


@pytest.mark.parametrize(
    ("rules", "current", "proposal", "expected"),
    [
        (Rules(DOWN, 0.0), 80, 10, 72),  # 10%: 8 of 80
        (Rules(DOWN, 0.0), 72, 10, 64),  # 10% of 72 is 7.2, rounded up
        (Rules(DOWN, 0.0), 40, 10, 36),  # 40 or less: 4 at a time
        (Rules(DOWN, 0.0, "Min"), 80, 10, 76),
        (Rules(DOWN, 0.0, "Disabled"), 80, 10, 80),
        (Rules((), 0.0), 80, 10, 80),
        (Rules(TENTH, 0.0), 3, 1, 2),  # 0.3 of a pod is one
        (Rules(UP, 0.0), 3, 20, 7),
        (Rules(UP, 0.0), 6, 20, 12),
        (Rules(UP, 0.0, "Min"), 3, 20, 6),
        (Rules(TENTH, 0.0), 3, 20, 4),  # rounded up, or it would never go
        (Rules(TENTH, 0.0), 10, 20, 11),  # and 11.000000000000002 is 11
        (Rules(UP, 0.0, "Disabled"), 3, 20, 3),
    ],
)
def test_policies_limit_a_step(rules, current, proposal, expected):
    assert Autoscaler(scaling(up=rules, down=rules)).sync(0.0, current, proposal) == expected


def replicas(scaling, current, proposals, sync_s=15.0):
    """What an autoscaler decides at each sync."""
    autoscaler, seen = Autoscaler(scaling), []
    for sync, proposal in enumerate(proposals):
        current = autoscaler.sync(sync_s * sync, current, proposal)
        seen.append(current)
    return seen


@pytest.mark.parametrize(
    ("rules", "current", "proposals", "expected"),
    [
        # As a live cluster went.
        (Rules((Policy("Percent", 100, 15.0),), 0.0), 3, [20] * 4, [6, 12, 20, 20]),
        # A policy counts what changed within its period.
        (Rules((Policy("Pods", 4, 60.0),), 0.0), 1, [20] * 6, [5, 5, 5, 5, 9, 9]),
        # The window up holds the lowest proposal until it is old, the one down the highest.
        (Rules((Policy("Percent", 900, 15.0),), 30.0), 2, [2, 6, 5, 6], [2, 2, 5, 5]),
        (
            Rules((Policy("Percent", 100, 15.0),), 60.0),
            *(10, [10, 4, 7, 4, 4, 4, 4, 4], [10, 10, 10, 10, 7, 7, 4, 4]),
        ),
    ],
)
def test_policies_and_windows_remember(rules, current, proposals, expected):
    assert replicas(scaling(up=rules, down=rules), current, proposals) == expected


@pytest.mark.parametrize(
    ("current", "proposal", "expected"),
    [
        (4, None, 4),  # nothing is removed blindly
        (4, 99, 12),  # not above the maximum
        (4, 0, 2),  # nor below the minimum
        (1, 1, 2),
        (14, None, 12),
    ],
)
def test_the_bounds_and_an_unknown_metric(current, proposal, expected):
    assert Autoscaler(scaling(2, 12)).sync(0.0, current, proposal) == expected


def test_scaled_rules_do_the_same_in_less_time():
    rules = scaling(down=Rules((Policy("Pods", 1, 60.0),), window_s=120.0))
    proposals = [6] * 4 + [2] * 36
    slow_run = replicas(rules, 1, proposals)
    assert slow_run == replicas(scaled(rules, 4.0), 1, proposals, sync_s=15.0 / 4)
    assert len(set(slow_run)) > 3  # else nothing was scaled
