"""What the measured times say: how many times as fast as the naive graph, how near to the peak."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .report import Result

GOAL = 3.0  # times the naive graph's speed, for the form that is served


@dataclass(frozen=True)
class Standing:
    """One form at one batch size.

    `times_naive`: its speed as a multiple of the naive graph's. `share_of_peak`: the arithmetic
    of the served graph in its time, as a share of what the machine multiplies at most in its
    precision. None where there is nothing to compare with.
    """

    form: str
    batch: int
    times_naive: float | None
    share_of_peak: float | None


def standings(
    results: Sequence[Result],
    naive: str,
    flop: float,
    peaks: Mapping[str, float],
) -> list[Standing]:
    """Of every form but `naive`. `flop` is of the served graph for one image; `peaks` by form."""
    naive_speed = {r.batch: r.images_per_second for r in results if r.form == naive}
    return [
        Standing(
            form=result.form,
            batch=result.batch,
            times_naive=(
                result.images_per_second / naive_speed[result.batch]
                if result.batch in naive_speed
                else None
            ),
            share_of_peak=(
                result.images_per_second * flop / peaks[result.form]
                if result.form in peaks
                else None
            ),
        )
        for result in results
        if result.form != naive
    ]


def comparison_text(
    found: Sequence[Standing], peaks: Mapping[str, float], served: str | None
) -> str:
    """A line for each form and batch, and the verdict on the form that is `served`; may be ""."""
    told = [s for s in found if s.times_naive is not None or s.share_of_peak is not None]
    if not told:
        return ""
    width = max(len(standing.form) for standing in told)
    lines = ["", f"{'':{width}}  batch  times naive  of the peak here"]
    for standing in told:
        times, share = standing.times_naive, standing.share_of_peak
        beside = "" if share is None else f"{share:.0%} of {peaks[standing.form] / 1e9:.0f} GFLOP/s"
        factor = "" if times is None else f"{times:.2f}"
        lines.append(
            f"{standing.form:{width}}  {standing.batch:5}  {factor:>11}  {beside}".rstrip()
        )
    for standing in told:
        if standing.form == served and standing.batch == 1 and standing.times_naive is not None:
            verdict = "reached" if standing.times_naive >= GOAL else "MISSED"
            lines.append(
                f"Served here by default: {served}, {standing.times_naive:.2f} times as fast as "
                f"the naive graph (goal: {GOAL:.0f}, {verdict})."
            )
    return "\n".join(lines)
