"""Whether two answers say the same."""

import base64
import io
import json

import pytest
from PIL import Image

from pem_bench.agreement import checker, compare
from pem_bench.cli import BenchError
from pem_bench.end_to_end import difference
from pem_client import Detections

Found = tuple[str, float, int]  # label, score, width of the mask of 10 columns


def answer(*found: Found) -> bytes:
    same = {"bbox": [0, 0, 1, 1], "cls_id": 1}
    wire = [same | {"conf": conf, "label": label, "mask": mask(w)} for label, conf, w in found]
    return json.dumps({"detections": wire, "latency": {}}).encode()


def mask(width: int) -> str:
    image, file = Image.new("1", (10, 4)), io.BytesIO()
    image.paste(1, (0, 0, width, 4))
    image.save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


SKY, CAR, SMALL_CAR = ("sky", 0.9, 5), ("car", 0.8, 4), ("car", 0.7, 2)
REFERENCE = answer(SKY, CAR, SMALL_CAR, ("dog", 0.52, 1))


@pytest.mark.parametrize(
    ("other", "missing", "score", "iou"),
    [
        (answer(("sky", 0.95, 4), ("car", 0.71, 2), CAR), 0, 0.05, 10 / 11),
        (answer(SKY, CAR), 1, 0.0, 1.0),
        (answer(("tree", 0.9, 5), CAR, SMALL_CAR), 2, 0.0, 1.0),
        (answer(SKY, CAR, SMALL_CAR, ("cat", 0.6, 2)), 0, 0.0, 1.0),  # one more, but unsure
    ],
)
def test_answers_are_compared_by_mask(other: bytes, missing: int, score: float, iou: float) -> None:
    found = compare(Detections.from_json(other), Detections.from_json(REFERENCE))
    assert vars(found) == pytest.approx({"missing": missing, "score": score, "mask_iou": iou})


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        (answer(("sky", 0.81, 1), ("car", 0.75, 1), ("car", 0.75, 1)), None),
        (answer(CAR, SMALL_CAR), "lacks sky"),
        (answer(("sky", 0.75, 5), CAR, SMALL_CAR), "sky scored 0.75"),
    ],
)
def test_every_answer_is_checked_against_the_first(other: bytes, sentence: str | None) -> None:
    found = checker(REFERENCE)(other)
    assert (found is None) == (sentence is None)
    assert sentence is None or sentence in str(found)


def test_a_system_that_finds_something_else_is_not_measured() -> None:
    same = {"missing": 0, "score": 0, "mask_iou": 1}
    assert vars(difference("peer", REFERENCE, REFERENCE)) == same
    with pytest.raises(BenchError, match=r"peer .* 3 missing"):
        difference("peer", answer(), REFERENCE)
