"""Whether two answers say the same."""

import base64
import io
import json

import pytest
from PIL import Image

from pem_bench.agreement import checker, compare
from pem_client import Detections

Found = tuple[str, float, int]  # label, score, width of the mask of 10 columns


def answer(*found: Found) -> bytes:
    wire = [
        {"bbox": [0, 0, w, 1], "conf": conf, "cls_id": 1, "label": label, "mask": mask(w)}
        for label, conf, w in found
    ]
    return json.dumps({"detections": wire, "latency": {}}).encode()


def mask(width: int) -> str:
    image, file = Image.new("1", (10, 4)), io.BytesIO()
    image.paste(1, (0, 0, width, 4))
    image.save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


REFERENCE = answer(("sky", 0.9, 5), ("car", 0.8, 4), ("car", 0.7, 2), ("dog", 0.52, 1))


@pytest.mark.parametrize(
    ("other", "missing", "score", "iou"),
    [
        (REFERENCE, 0, 0.0, 1.0),
        (answer(("sky", 0.95, 4), ("car", 0.71, 2), ("car", 0.8, 4)), 0, 0.05, 10 / 11),
        (answer(("sky", 0.9, 5), ("car", 0.8, 4)), 1, 0.0, 1.0),
        (answer(("tree", 0.9, 5), ("car", 0.8, 4), ("car", 0.7, 2)), 2, 0.0, 1.0),
        (answer(("sky", 0.9, 5), ("car", 0.8, 4), ("car", 0.7, 2), ("cat", 0.6, 2)), 0, 0.0, 1.0),
    ],
    ids=["same", "close", "one less", "another label", "one more that is unsure"],
)
def test_answers_are_compared_by_label_and_mask(
    other: bytes, missing: int, score: float, iou: float
) -> None:
    found = compare(Detections.from_json(other), Detections.from_json(REFERENCE))
    assert found.missing == missing
    assert (found.score, found.mask_iou) == (pytest.approx(score), pytest.approx(iou))


@pytest.mark.parametrize(
    ("other", "sentence"),
    [
        (REFERENCE, None),
        (answer(("sky", 0.81, 1), ("car", 0.75, 1), ("car", 0.75, 1)), None),
        (answer(("car", 0.8, 4), ("car", 0.7, 2)), "lacks sky"),
        (answer(("sky", 0.75, 5), ("car", 0.8, 4), ("car", 0.7, 2)), "sky scored 0.75"),
    ],
    ids=["same", "close", "one lacks", "another score"],
)
def test_every_answer_is_checked_against_the_first(other: bytes, sentence: str | None) -> None:
    found = checker(REFERENCE)(other)
    assert (found is None) == (sentence is None)
    assert sentence is None or sentence in str(found)
