"""Whether an answer is right, through the real client on a fake transport."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

import pem_client
from pem_client import Client, Detection, Detections
from pem_loadtest.image_requests import AnswerChecker
from pem_loadtest.images import EncodedImage
from pem_loadtest.samples import Outcome

IMAGES = [EncodedImage("good", b"jpeg", 40, 30), EncodedImage("broken", b"text", 0, 0)]


class FakeTransport:
    """Returns answers or raises errors in order."""

    def __init__(self, *answers: Detections | Exception) -> None:
        self._answers = iter(answers)

    def infer(self, *_: Any) -> dict[str, Any]:
        answer = next(self._answers)
        if isinstance(answer, Exception):
            raise answer
        return {"detections": np.array([[answer.to_json().encode()]], dtype=object)}


def found(conf: float = 0.9, box: Any = (2, 3, 20, 10), cls_id: int = 2, **mask: Any) -> Detection:
    file = io.BytesIO()
    Image.new("1", mask.get("size", (40, 30)), mask.get("color", 1)).save(file, "PNG")
    return Detection(box, conf, cls_id, f"class {cls_id}", file.getvalue())


def outcomes(index: int, *answers: Detections | Exception) -> list[Outcome]:
    checker, client = AnswerChecker(IMAGES), Client(transport=FakeTransport(*answers))
    return [checker.request(client, index).outcome for _ in answers]


def all_of(*detections: Detection) -> Detections:
    return Detections(detections, {"inference": 0.01})


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        ("InvalidRequest", Outcome.REFUSED),
        ("Overloaded", Outcome.OVERLOADED),
        ("ServerUnavailable", Outcome.UNAVAILABLE),
        ("DeadlineExceeded", Outcome.TIMED_OUT),
        ("ServerError", Outcome.SERVER_ERROR),
    ],
)
def test_only_a_broken_image_may_be_refused(error: str, outcome: Outcome) -> None:
    raised = getattr(pem_client, error)("x")
    broken = Outcome.REFUSED_AS_BROKEN if outcome is Outcome.REFUSED else outcome
    assert outcomes(0, raised) == [outcome]
    assert outcomes(1, raised, all_of()) == [broken, Outcome.BROKEN_ACCEPTED]


@pytest.mark.parametrize(
    "wrong",
    [
        [found(size=(30, 40))],
        [found(color=0)],
        [found(box=(2, 3, 41, 10))],
        [found(box=(-1, 3, 20, 10))],
        [found(conf=0.5)],
        [found(0.6), found(0.9)],
    ],
)
def test_an_answer_against_the_contract_is_wrong(wrong: list[Detection]) -> None:
    assert outcomes(0, all_of(*wrong)) == [Outcome.WRONG_ANSWER]


@pytest.mark.parametrize(
    ("later", "outcome"),
    [
        ([found(), found(0.6)], Outcome.ANSWERED),
        ([found(conf=0.89, box=(2, 3, 21, 9)), found(0.6)], Outcome.ANSWERED),
        ([found(), found(0.6), found(0.51, cls_id=9)], Outcome.ANSWERED),  # on the threshold's edge
        ([found()], Outcome.WRONG_ANSWER),
        ([found(cls_id=3), found(0.6)], Outcome.WRONG_ANSWER),
        ([found(conf=0.8), found(0.6)], Outcome.WRONG_ANSWER),
        ([found(box=(2, 3, 30, 10)), found(0.6)], Outcome.WRONG_ANSWER),
        ([found(), found(0.7, cls_id=9), found(0.6)], Outcome.WRONG_ANSWER),
    ],
)
def test_a_later_answer_must_equal_the_first_within_rounding(
    later: list[Detection], outcome: Outcome
) -> None:
    first = all_of(found(0.9), found(0.6))
    assert outcomes(0, first, all_of(*later)) == [Outcome.ANSWERED, outcome]
