"""Whether an answer is right, through the real client on a fake transport."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pem_client import (
    Client,
    DeadlineExceeded,
    Detection,
    Detections,
    InvalidRequest,
    Overloaded,
    ServerError,
    ServerUnavailable,
)
from pem_loadtest.image_requests import AnswerChecker
from pem_loadtest.images import EncodedImage
from pem_loadtest.samples import Outcome

IMAGES = [EncodedImage("good", b"jpeg", 40, 30), EncodedImage("broken", b"text", 0, 0)]


class FakeTransport:
    """Returns answers or raises errors in order."""

    def __init__(self, *answers: Detections | Exception) -> None:
        self._answers = iter(answers)

    def infer(self, model: str, inputs: Any, outputs: Sequence[str]) -> dict[str, Any]:
        answer = next(self._answers)
        if isinstance(answer, Exception):
            raise answer
        return {"detections": np.array([[answer.to_json().encode()]], dtype=object)}

    def close(self) -> None:
        pass


def found(
    conf: float = 0.9,
    box: tuple[float, float, float, float] = (2, 3, 20, 10),
    cls_id: int = 2,
    size: tuple[int, int] = (40, 30),
    value: int = 1,
) -> Detection:
    file = io.BytesIO()
    Image.new("1", size, value).save(file, "PNG")
    return Detection(box, conf, cls_id, f"class {cls_id}", file.getvalue())


def outcomes(index: int, *answers: Detections | Exception) -> list[Outcome]:
    checker, client = AnswerChecker(IMAGES), Client(transport=FakeTransport(*answers))
    return [checker.request(client, index).outcome for _ in answers]


def all_of(*detections: Detection) -> Detections:
    return Detections(detections, {"inference": 0.01})


@pytest.mark.parametrize(
    ("error", "good", "broken"),
    [
        (InvalidRequest("x"), Outcome.REFUSED, Outcome.REFUSED_AS_BROKEN),
        (Overloaded("x"), Outcome.OVERLOADED, Outcome.OVERLOADED),
        (ServerUnavailable("x"), Outcome.UNAVAILABLE, Outcome.UNAVAILABLE),
        (DeadlineExceeded("x"), Outcome.TIMED_OUT, Outcome.TIMED_OUT),
        (ServerError("x"), Outcome.SERVER_ERROR, Outcome.SERVER_ERROR),
    ],
)
def test_only_a_broken_image_may_be_refused(
    error: Exception, good: Outcome, broken: Outcome
) -> None:
    assert outcomes(0, error) == [good]
    assert outcomes(1, error, all_of()) == [broken, Outcome.BROKEN_ACCEPTED]


@pytest.mark.parametrize(
    "wrong",
    [
        all_of(found(size=(30, 40))),
        all_of(found(value=0)),
        all_of(found(box=(2, 3, 41, 10))),
        all_of(found(box=(-1, 3, 20, 10))),
        all_of(found(conf=0.5)),
        all_of(found(0.6), found(0.9)),
    ],
)
def test_an_answer_against_the_contract_is_wrong(wrong: Detections) -> None:
    assert outcomes(0, wrong) == [Outcome.WRONG_ANSWER]
    assert outcomes(0, all_of(found(0.9), found(0.6))) == [Outcome.ANSWERED]


@pytest.mark.parametrize(
    ("later", "outcome"),
    [
        (all_of(found()), Outcome.ANSWERED),
        (all_of(found(conf=0.89, box=(2, 3, 21, 9))), Outcome.ANSWERED),
        (all_of(found(), found(conf=0.51, cls_id=9)), Outcome.ANSWERED),  # on the threshold's edge
        (all_of(), Outcome.WRONG_ANSWER),
        (all_of(found(cls_id=3)), Outcome.WRONG_ANSWER),
        (all_of(found(conf=0.8)), Outcome.WRONG_ANSWER),
        (all_of(found(box=(2, 3, 30, 10))), Outcome.WRONG_ANSWER),
        (all_of(found(), found(conf=0.7, cls_id=9)), Outcome.WRONG_ANSWER),
    ],
)
def test_a_later_answer_must_equal_the_first_within_rounding(
    later: Detections, outcome: Outcome
) -> None:
    assert outcomes(0, all_of(found()), later) == [Outcome.ANSWERED, outcome]
