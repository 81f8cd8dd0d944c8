"""What the Kubernetes horizontal autoscaler decides, as a calculation without a cluster.

Once every sync it (1) computes ceil(metric / threshold) replicas, unless the metric is within the
tolerance of what the present replicas are for, (2) applies the stabilization windows, so that a
short dip removes nothing, and (3) limits the step by the policies.
KEDA hands the metric of a ScaledObject to this same autoscaler, so this is its formula too (between
one replica and many; waking from zero is KEDA's own and not modelled).

Rules: kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale, and the rounding as in
pkg/controller/podautoscaler/horizontal.go. Not modelled: pods that are not ready, which matter to
resource metrics only.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

SYNC_S = 15.0  # --horizontal-pod-autoscaler-sync-period
TOLERANCE = 0.1  # --horizontal-pod-autoscaler-tolerance


@dataclass(frozen=True)
class Policy:
    """The most that may change within a period: so many pods, or so many percent of them."""

    kind: Literal["Pods", "Percent"]
    value: int
    period_s: float


@dataclass(frozen=True)
class Rules:
    """One direction. `window_s`: how long a proposal of the past is held against a new one."""

    policies: tuple[Policy, ...]
    window_s: float
    select: Literal["Max", "Min", "Disabled"] = "Max"
    tolerance: float = TOLERANCE


# What a manifest leaves out.
DEFAULT_UP = Rules((Policy("Percent", 100, 15.0), Policy("Pods", 4, 15.0)), window_s=0.0)
DEFAULT_DOWN = Rules((Policy("Percent", 100, 15.0),), window_s=300.0)


@dataclass(frozen=True)
class Scaling:
    """The bounds and the behaviour, as a HorizontalPodAutoscaler or a ScaledObject states them."""

    minimum: int
    maximum: int
    up: Rules = DEFAULT_UP
    down: Rules = DEFAULT_DOWN


def desired(metric: float, threshold: float, current: int, scaling: Scaling) -> int:
    """The replicas for a metric of target type AverageValue.

    `metric` is the total over all replicas, `threshold` the share of one. Not bounded yet.
    """
    ratio = metric / (threshold * current)
    if 1 - scaling.down.tolerance <= ratio <= 1 + scaling.up.tolerance:
        return current
    return math.ceil(metric / threshold)


@dataclass
class Autoscaler:
    """One autoscaler: its rules and what it remembers. Times are seconds of any one clock."""

    scaling: Scaling
    _proposals: list[tuple[float, int]] = field(default_factory=list)
    _added: list[tuple[float, int]] = field(default_factory=list)
    _removed: list[tuple[float, int]] = field(default_factory=list)

    def sync(self, now: float, current: int, proposal: int | None) -> int:
        """The replicas from now on; a metric that could not be read (None) changes nothing."""
        low, high = self.scaling.minimum, self.scaling.maximum
        if not low <= current <= high:
            replicas = min(max(current, low), high)
        elif proposal is None:
            replicas = current
        else:
            replicas = self._limit(now, current, self._stabilize(now, current, proposal))
        change = replicas - current
        (self._added if change > 0 else self._removed).append((now, abs(change)))
        return replicas

    def _stabilize(self, now: float, current: int, proposal: int) -> int:
        """Go up no further than the least, down no further than the most proposed lately."""
        up, down = self.scaling.up.window_s, self.scaling.down.window_s
        lowest = min([proposal, *(n for at, n in self._proposals if at > now - up)])
        highest = max([proposal, *(n for at, n in self._proposals if at > now - down)])
        self._proposals = [one for one in self._proposals if one[0] > now - max(up, down)]
        self._proposals.append((now, proposal))
        return min(max(current, lowest), highest)

    def _limit(self, now: float, current: int, proposal: int) -> int:
        if proposal > current:
            most = max(current, self._bound(now, current, self.scaling.up, upwards=True))
            return min(proposal, most, self.scaling.maximum)
        if proposal < current:
            least = min(current, self._bound(now, current, self.scaling.down, upwards=False))
            return max(proposal, least, self.scaling.minimum)
        return proposal

    def _bound(self, now: float, current: int, rules: Rules, *, upwards: bool) -> int:
        """Return how far the policies allow to go in this period; rounded in favour of going."""
        if rules.select == "Disabled" or not rules.policies:
            return current
        bounds = []
        for policy in rules.policies:
            since = now - policy.period_s
            start = current - _changed(self._added, since) + _changed(self._removed, since)
            step = policy.value if policy.kind == "Pods" else start * policy.value / 100
            # The remainder of a float product must not become a whole pod.
            exact = round(start + step if upwards else start - step, 6)
            bounds.append(math.ceil(exact) if upwards else math.floor(exact))
        widest = upwards == (rules.select == "Max")
        return max(bounds) if widest else min(bounds)


def scaled(scaling: Scaling, time_scale: float) -> Scaling:
    """The same rules with every window and period divided by `time_scale`."""

    def divide(rules: Rules) -> Rules:
        policies = tuple(replace(p, period_s=p.period_s / time_scale) for p in rules.policies)
        return replace(rules, policies=policies, window_s=rules.window_s / time_scale)

    return replace(scaling, up=divide(scaling.up), down=divide(scaling.down))


def _changed(events: Sequence[tuple[float, int]], since: float) -> int:
    return sum(count for at, count in events if at > since)
