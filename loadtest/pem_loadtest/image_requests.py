"""One request, and whether its answer is right: a fast wrong answer is a failure."""

import itertools
import time
from collections.abc import Sequence
from typing import NamedTuple

from pem_client import (
    Client,
    DeadlineExceeded,
    Detection,
    Detections,
    InvalidRequest,
    Overloaded,
    PemError,
    ServerUnavailable,
)

from .images import EncodedImage
from .samples import Outcome

# Batches of other sizes, and float arithmetic in another order, change an answer by this much.
CONF_TOLERANCE = 0.02
BOX_TOLERANCE = 4.0  # pixels
THRESHOLD = 0.5

_OUTCOMES: list[tuple[type[PemError], Outcome]] = [
    (InvalidRequest, Outcome.REFUSED),
    (Overloaded, Outcome.OVERLOADED),
    (ServerUnavailable, Outcome.UNAVAILABLE),
    (DeadlineExceeded, Outcome.TIMED_OUT),
    (PemError, Outcome.SERVER_ERROR),
]


class Answer(NamedTuple):
    """How it ended, when (time.monotonic()), and for a failure the reason."""

    outcome: Outcome
    at: float
    reason: str = ""


class AnswerChecker:
    """Keeps the first answer to each image and compares every later one with it."""

    def __init__(self, images: Sequence[EncodedImage]) -> None:
        self.images = images
        self._first: dict[int, Detections] = {}

    def request(self, client: Client, index: int) -> Answer:
        """Send one image, and check the answer after the clock has stopped."""
        image = self.images[index]
        try:
            found = client.infer(image.data, THRESHOLD)
        except PemError as error:
            at = time.monotonic()
            if image.is_broken and isinstance(error, InvalidRequest):
                return Answer(Outcome.REFUSED_AS_BROKEN, at)
            kind = next(outcome for cause, outcome in _OUTCOMES if isinstance(error, cause))
            return Answer(kind, at, str(error))
        at = time.monotonic()
        if image.is_broken:
            return Answer(Outcome.BROKEN_ACCEPTED, at, f"{image.name} was answered")
        if problem := self._problem(index, found):
            return Answer(Outcome.WRONG_ANSWER, at, f"{image.name}: {problem}")
        return Answer(Outcome.ANSWERED, at)

    def _problem(self, index: int, found: Detections) -> str | None:
        first = self._first.get(index)
        if first is not None:
            return difference(first, found)
        try:
            problem = contract_problem(self.images[index], found)
        except PemError as error:  # a mask that is not a PNG
            return str(error)
        if not problem:
            self._first[index] = found
        return problem


def contract_problem(image: EncodedImage, found: Detections) -> str | None:
    """What contradicts the contract, beyond what the client checks by itself; decodes masks."""
    size = (image.height, image.width)
    for each in found:
        if each.mask.shape != size or not each.mask.any():
            return f"a mask must be {size} and not empty, got {each.mask.shape}"
        x1, y1, x2, y2 = each.bbox
        if min(x1, y1) < 0 or x2 > image.width or y2 > image.height:
            return f"a box must lie in the image of {size}, got {each.bbox}"
        if each.conf <= THRESHOLD:
            return f"conf must be above the threshold {THRESHOLD}, got {each.conf}"
    if any(before.conf < after.conf for before, after in itertools.pairwise(found)):
        return "detections must come with the highest conf first"
    return None


def difference(first: Detections, later: Detections) -> str | None:
    """How two answers to one image differ beyond rounding; None if they do not."""
    for one, other, which in ((first, later, "missing"), (later, first, "new")):
        for each in one:
            is_sure = each.conf > THRESHOLD + CONF_TOLERANCE
            if is_sure and not any(_is_same(each, candidate) for candidate in other):
                return f"{which}, compared with the first answer: {each.label} {each.conf:.2f}"
    return None


def _is_same(one: Detection, other: Detection) -> bool:
    return (
        one.cls_id == other.cls_id
        and abs(one.conf - other.conf) <= CONF_TOLERANCE
        and all(abs(a - b) <= BOX_TOLERANCE for a, b in zip(one.bbox, other.bbox, strict=True))
    )
