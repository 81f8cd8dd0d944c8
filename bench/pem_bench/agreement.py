"""Whether two servers found the same in an image, and by how much they differ.

Servers compute in different precisions and, by batches, in different orders. A detection close to
the threshold may so be there or not; what is well above it must be there.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pem_client import Detection, Detections

SURE = 0.6  # above the threshold of 0.5 by more than rounding can do
SCORES_WITHIN = 0.1


@dataclass(frozen=True)
class Difference:
    """How far the detections of one server are from another's."""

    missing: int  # sure detections that the other has, and this one has not, and the reverse
    score: float  # the largest difference of a score
    mask_iou: float  # of all their masks together: what both cover over what either covers

    def __str__(self) -> str:
        return (
            f"{self.missing} missing, scores within {self.score:.3f}, masks {self.mask_iou:.1%} "
            "the same"
        )


def compare(answer: Detections, reference: Detections) -> Difference:
    """Pair the sure detections of one label by their masks."""
    theirs, missing, scores = list(answer), 0, [0.0]
    both = either = 0
    for mine in (found for found in reference if found.conf > SURE):
        same = [found for found in theirs if found.label == mine.label]
        if not same:
            missing += 1
            continue
        best = max(same, key=lambda found: overlap(found, mine)[0])
        theirs.remove(best)
        scores.append(abs(best.conf - mine.conf))
        pixels = overlap(best, mine)
        both, either = both + pixels[0], either + pixels[1]
    missing += sum(found.conf > SURE + SCORES_WITHIN for found in theirs)
    return Difference(missing, max(scores), both / either if either else 1.0)


def overlap(one: Detection, other: Detection) -> tuple[int, int]:
    """The pixels that both masks cover, and that either does; masks of two sizes share none."""
    if one.mask.shape != other.mask.shape:
        return 0, one.mask.size + other.mask.size
    both = np.logical_and(one.mask, other.mask).sum()
    return int(both), int(np.logical_or(one.mask, other.mask).sum())


def checker(reference: bytes) -> Callable[[bytes], str | None]:
    """A quick check of every answer against one: labels and scores of what is sure."""
    expected = _sure(reference, SURE)

    def check(answer: bytes) -> str | None:
        found = _sure(answer, SURE - SCORES_WITHIN)
        for label, score in expected:
            near = [each for each in found if each[0] == label]
            if not near:
                return f"an answer lacks {label}, found with {score:.2f} before"
            closest = min(near, key=lambda each: abs(each[1] - score))
            if abs(closest[1] - score) > SCORES_WITHIN:
                return f"an answer has {label} with {closest[1]:.2f}, and {score:.2f} before"
            found.remove(closest)
        return None

    return check


def _sure(answer: bytes, least: float) -> list[tuple[str, float]]:
    found = json.loads(answer)["detections"]
    return [(each["label"], each["conf"]) for each in found if each["conf"] > least]
