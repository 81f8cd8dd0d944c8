"""Detections are those of the definition, written out pixel by pixel."""

import base64
import io
import json
import math
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image
from step_requests import GEOMETRIES, LABELS, QUERIES, map_batch

from pem_server.step_inputs import InputError


@pytest.fixture
def postprocessing(load_model):
    return load_model("pem_postprocess", "postprocessing")


def slow_pixels(masks: np.ndarray, geometry: tuple[int, ...], side: int) -> np.ndarray:
    """(height, width) query of each pixel of the image, by the definition, one by one."""
    height, width, fitted_height, fitted_width = geometry
    stride = side // len(masks)

    def cell(pixel: int, length: int, fitted: int) -> int:
        place = math.floor((pixel + Fraction(1, 2)) * fitted / length / stride)
        return min(place, math.ceil(fitted / stride) - 1)

    rows = [cell(y, height, fitted_height) for y in range(height)]
    columns = [cell(x, width, fitted_width) for x in range(width)]
    return masks[np.ix_(rows, columns)]


def decoded(mask: str) -> np.ndarray:
    image = Image.open(io.BytesIO(base64.b64decode(mask)))
    assert (image.format, image.mode) == ("PNG", "1")
    return np.asarray(image)


def detect_one(postprocessing, arguments: dict) -> list[dict]:
    [detections] = postprocessing.detect(**arguments, labels=LABELS)
    return detections


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("seed", [0, 1])
def test_detections_are_those_of_the_definition(postprocessing, geometry, stride, seed):
    changes = {"geometry": np.array([geometry], np.int32), "threshold": np.array([[0.3]])}
    arguments = map_batch(1, 64 // stride, seed, **changes)
    [class_ids], [scores] = arguments["class_ids"], arguments["scores"]
    pixels = slow_pixels(arguments["masks"][0], geometry, 64)
    detections = detect_one(postprocessing, arguments)
    expected = sorted(
        (query for query in range(QUERIES) if scores[query] > 0.3 and (pixels == query).any()),
        key=lambda query: -scores[query],
    )
    assert [detection["cls_id"] for detection in detections] == class_ids[expected].tolist()
    assert [detection["conf"] for detection in detections] == scores[expected].tolist()
    for detection, query in zip(detections, expected, strict=True):
        mask = decoded(detection["mask"])
        assert (mask == (pixels == query)).all()
        x1, y1, x2, y2 = detection["bbox"]
        inside = mask[y1:y2, x1:x2]
        assert inside.sum() == mask.sum()
        assert all(edge.any() for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]))
        assert detection["label"] == LABELS[class_ids[query]]


@pytest.mark.parametrize(
    ("cells", "geometry"),
    [
        (np.s_[32:], (32, 64, 32, 64)),  # in the padding alone
        (np.s_[0, 0], (16, 16, 64, 64)),  # the pixel centers fall on rows and columns 2, 6, 10, ...
    ],
)
def test_a_query_without_a_pixel_is_no_detection(postprocessing, cells, geometry):
    masks = np.zeros((1, 64, 64), np.uint8)
    masks[0][cells] = 1
    changes = {
        "class_ids": np.arange(QUERIES, dtype=np.int32)[None],
        "scores": np.full((1, QUERIES), 0.9, np.float32),
        "geometry": np.array([geometry], np.int32),
    }
    detections = detect_one(postprocessing, map_batch(1, masks=masks, **changes))
    assert [detection["cls_id"] for detection in detections] == [0]


def halves(left: float, right: float) -> dict[str, np.ndarray]:
    """Two queries of class 20, each in one half of the image, with these scores."""
    masks = np.zeros((1, 64, 64), np.uint8)
    masks[..., 32:] = 1
    scores = np.array([[left, right, *[0.0] * (QUERIES - 2)]], np.float32)
    return {"class_ids": np.full((1, QUERIES), 20, np.int32), "scores": scores, "masks": masks}


def test_two_queries_of_one_class_are_two_detections(postprocessing):
    detections = detect_one(postprocessing, map_batch(1, **halves(0.8, 0.9)))
    assert [(found["cls_id"], found["bbox"]) for found in detections] == [
        (20, [32, 0, 64, 64]),
        (20, [0, 0, 32, 64]),
    ]


@pytest.mark.parametrize(("threshold", "count"), [(0.0, 1), (0.25, 1), (0.5, 0), (1.0, 0)])
def test_the_score_must_be_greater_than_the_threshold(postprocessing, threshold, count):
    changes = halves(0.5, 0) | {"threshold": np.array([[threshold]], np.float32)}
    assert len(detect_one(postprocessing, map_batch(1, **changes))) == count


def test_each_image_of_a_batch_has_its_own_geometry_and_threshold(postprocessing):
    geometry = np.array([(48, 64, 48, 64), (300, 200, 64, 43)], np.int32)
    threshold = np.array([[0.2], [0.7]], np.float32)
    changes = {"geometry": geometry, "threshold": threshold}
    both = postprocessing.detect(**map_batch(2, **changes), labels=LABELS)
    for index, place in enumerate((np.s_[:1], np.s_[1:])):
        alone = map_batch(1, geometry=geometry[place], threshold=threshold[place])
        assert both[index] == detect_one(postprocessing, alone)
    assert len(both[0]) > len(both[1]) > 0


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"threshold": np.array([[0.5], [7]], np.float32)}, r"image 1 of 2 .*threshold"),
        ({"geometry": np.full((2, 4), 65, np.int32)}, "image 0 of 2 .*geometry"),
        ({"class_ids": np.full((2, QUERIES), 150, np.int32)}, "class_ids.* 149"),
    ],
)
def test_bad_inputs_are_refused(postprocessing, changes, part):
    with pytest.raises(InputError, match=part):
        postprocessing.detect(**map_batch(2, **changes), labels=LABELS)


def test_the_answer_is_json_with_seconds(postprocessing):
    times = {"start": 10.0, "prepared": 10.5, "arrival": 12, "end": 12.25}
    assert json.loads(postprocessing.to_json([], **times)) == {
        "detections": [],
        "latency": {"preprocess": 0.5, "inference": 1.5, "postprocess": 0.25},
    }
    with pytest.raises(ValueError, match="JSON"):
        postprocessing.to_json([], **times | {"start": math.nan})
