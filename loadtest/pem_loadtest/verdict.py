"""The verdict on a run: pass, missed goal or invalid."""

from collections.abc import Iterable
from enum import IntEnum
from typing import NamedTuple

from .samples import Outcome, Samples, percentile, summarise


class Verdict(IntEnum):
    """The value is the exit code."""

    PASS = 0
    MISSED = 1
    INVALID = 3  # 2 is for wrong options


class Evaluation(NamedTuple):
    """A verdict with a sentence for each reason."""

    verdict: Verdict
    reasons: tuple[str, ...] = ()


class Limits(NamedTuple):
    """What decides.

    latency_ms: what the `percentile` of latency must not exceed. failure_share: 0 to 1.
    answered_per_second: 0 requires nothing. lateness_ms: what p99 of lateness must not exceed.
    """

    latency_ms: float
    percentile: float = 99.0
    failure_share: float = 0.001
    answered_per_second: float = 0.0
    lateness_ms: float = 20.0


def evaluate(samples: Samples, seconds: float, limits: Limits) -> Evaluation:
    """One step. Whether the load was sent as planned comes first: else nothing else counts."""
    figures = summarise(samples, seconds)
    invalid = []
    if figures["pool_exhausted"]:
        waited = figures["pool_exhausted"]
        invalid.append(f"{waited} images waited because all users were busy: raise --users")
    elif (late := figures["lateness_p99_ms"]) > limits.lateness_ms:
        invalid.append(
            f"images were sent late, p99 {late:.1f} ms with a limit of {limits.lateness_ms:g}: "
            "this machine cannot generate the load; free it or use --processes"
        )
    if not len(samples):
        invalid.append("nothing was sent")
    if invalid:
        return Evaluation(Verdict.INVALID, tuple(invalid))
    missed = list(_missed(samples, seconds, limits))
    return Evaluation(Verdict.MISSED if missed else Verdict.PASS, tuple(missed))


def _missed(samples: Samples, seconds: float, limits: Limits) -> Iterable[str]:
    figures = summarise(samples, seconds)
    answered = samples[samples["outcome"] == Outcome.ANSWERED]
    latency = percentile(answered["latency_ms"], limits.percentile)
    if not latency <= limits.latency_ms:  # also when nothing was answered
        yield f"p{limits.percentile:g} is {latency:.1f} ms, the goal is {limits.latency_ms:g}"
    if figures["failure_share"] > limits.failure_share:
        counts = ", ".join(f"{number} {name}" for name, number in figures["failures"].items())
        share = figures["failure_share"]
        yield f"{share:.2%} failed ({counts}), the limit is {limits.failure_share:.2%}"
    if (rate := figures["answered_per_second"]) < limits.answered_per_second:
        yield f"{rate:.1f} images/s were answered, the goal is {limits.answered_per_second:g}"


def is_beyond_knee(samples: Samples, seconds: float, limits: Limits) -> bool | None:
    """Whether a step of the ladder is above the knee; None when it proves nothing.

    A step that exhausted the pool still proves something if it misses the goal even when latency
    counts from the actual sending, as if each image had come only when a user was free.
    """
    evaluation = evaluate(samples, seconds, limits)
    if evaluation.verdict is not Verdict.INVALID:
        return evaluation.verdict is Verdict.MISSED
    if not samples["is_pool_exhausted"].any():
        return None
    as_sent = samples.copy()
    as_sent["latency_ms"] -= as_sent["lateness_ms"]
    as_sent["lateness_ms"], as_sent["is_pool_exhausted"] = 0.0, False
    return True if evaluate(as_sent, seconds, limits).verdict is Verdict.MISSED else None


def conservation_problem(succeeded: int, uncertain: int, counted: float) -> str | None:
    """Why the server's count of successes cannot be that of these clients, or None.

    succeeded: images that the clients got an answer to. uncertain: those whose end they do not
    know. counted: by how much the ensemble's success counter rose.
    """
    if counted < 0:
        return "a server was restarted during the run: its counters fell"
    if succeeded <= counted <= succeeded + uncertain:
        return None
    unknown = f" and do not know the end of {uncertain}" if uncertain else ""
    return (
        f"the clients got {succeeded} answers{unknown}, the server counted {counted:g}: another "
        "client uses it, or --metrics does not list every server"
    )


def worst(evaluations: Iterable[Evaluation]) -> Evaluation:
    """The worst verdict, with all of its reasons."""
    every = list(evaluations)
    verdict = Verdict(max((each.verdict for each in every), default=Verdict.PASS))
    reasons = [why for each in every if each.verdict is verdict for why in each.reasons]
    return Evaluation(verdict, tuple(reasons))
