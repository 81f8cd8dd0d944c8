"""Whether two servers found the same in an image, and how far their answers differ.

Servers compute in different precisions and, by batches, in different orders. So a detection close
to the threshold may or may not be there; one well above it must be.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass

from pem_client import Detection, Detections

SURE = 0.6  # above the threshold of 0.5 by more than rounding can do
SCORES_WITHIN = 0.1


@dataclass(frozen=True)
class Difference:
    """How far the detections of one server are from another's."""

    missing: int  # sure detections that only one of the two has
    score: float  # the largest difference of a score
    mask_iou: float  # of all masks together: pixels that both cover over those that either does

    def __str__(self) -> str:
        return (
            f"{self.missing} missing, scores within {self.score:.3f}, mask IoU {self.mask_iou:.1%}"
        )


def compare(answer: Detections, reference: Detections) -> Difference:
    """Pair the sure detections of one label by their masks."""
    unpaired, missing, scores = list(answer), 0, [0.0]
    both = either = 0
    for expected in (detection for detection in reference if detection.conf > SURE):
        candidates = [d for d in unpaired if d.label == expected.label]
        if not candidates:
            missing += 1
            continue
        best = max(candidates, key=lambda candidate: overlap(candidate, expected)[0])
        unpaired.remove(best)
        scores.append(abs(best.conf - expected.conf))
        pixels = overlap(best, expected)
        both, either = both + pixels[0], either + pixels[1]
    missing += sum(detection.conf > SURE + SCORES_WITHIN for detection in unpaired)
    return Difference(missing, max(scores), both / either if either else 1.0)


def overlap(a: Detection, b: Detection) -> tuple[int, int]:
    """Pixels that both masks cover, and that either does; masks of two sizes share none."""
    if a.mask.shape != b.mask.shape:
        return 0, a.mask.size + b.mask.size
    return int((a.mask & b.mask).sum()), int((a.mask | b.mask).sum())


def checker(reference: bytes) -> Callable[[bytes], str | None]:
    """A quick check of every answer against one: labels and scores of sure detections."""
    expected = _labels_and_scores(reference, SURE)

    def check(answer: bytes) -> str | None:
        found = _labels_and_scores(answer, SURE - SCORES_WITHIN)
        for label, score in expected:
            candidates = [pair for pair in found if pair[0] == label]
            if not candidates:
                return f"an answer lacks {label} ({score:.2f} in the first answer)"
            closest = min(candidates, key=lambda pair: abs(pair[1] - score))
            if abs(closest[1] - score) > SCORES_WITHIN:
                return f"{label} scored {closest[1]:.2f} ({score:.2f} in the first answer)"
            found.remove(closest)
        return None

    return check


def _labels_and_scores(answer: bytes, least: float) -> list[tuple[str, float]]:
    detections = json.loads(answer)["detections"]
    return [(each["label"], each["conf"]) for each in detections if each["conf"] > least]
