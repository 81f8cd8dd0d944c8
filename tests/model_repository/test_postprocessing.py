"""Detections are those of the definition, written out pixel by pixel."""

import base64
import io
import json
import math
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from pem_server.step_inputs import InputError

QUERIES = 12
LABELS = [f"class {number}" for number in range(150)]
MAX_PIXELS = 1_000_000

# height, width, fitted_height, fitted_width on an input of side 64: shrunk, enlarged, slivers.
GEOMETRIES = [
    (64, 64, 64, 64),
    (48, 64, 48, 64),
    (97, 131, 47, 64),
    (300, 200, 64, 43),
    (7, 11, 41, 64),
    (1, 1, 64, 64),
    (1, 500, 1, 64),
    (500, 1, 64, 1),
    (3, 200, 1, 64),
]


@pytest.fixture
def postprocessing(load_model):
    return load_model("pem_postprocess", "postprocessing")


def random_outputs(seed: int, side: int):
    """class_ids (Q,), scores (Q,), masks (S, S): queries form blobs, some are missing."""
    dice = np.random.default_rng(seed)
    class_ids = dice.integers(0, 150, QUERIES).astype(np.int32)
    scores = dice.random(QUERIES).astype(np.float32)
    coarse = dice.integers(0, QUERIES - 2, (5, 5))
    places = np.arange(side) * 5 // side
    masks = coarse[places][:, places].astype(np.uint8)
    masks[dice.random((side, side)) < 0.02] = QUERIES - 1  # a sprinkle of single cells
    return class_ids, scores, masks


def slow_pixels(masks: np.ndarray, geometry: tuple[int, ...], side: int) -> np.ndarray:
    """(height, width) query of each pixel of the image, by the definition, one by one."""
    height, width, fitted_height, fitted_width = geometry
    stride = side // len(masks)

    def cell(pixel: int, length: int, fitted: int) -> int:
        place = math.floor((pixel + Fraction(1, 2)) * fitted / length / stride)
        return min(place, math.ceil(fitted / stride) - 1)

    return np.array(
        [
            [
                masks[cell(y, height, fitted_height), cell(x, width, fitted_width)]
                for x in range(width)
            ]
            for y in range(height)
        ]
    )


def decoded(mask: str) -> np.ndarray:
    image = Image.open(io.BytesIO(base64.b64decode(mask)))
    assert image.format == "PNG"
    assert image.mode == "1"
    return np.asarray(image)


def detect(postprocessing, class_ids, scores, masks, geometry, threshold=0.5):
    view = postprocessing.view_of(masks, np.array(geometry, np.int32), MAX_PIXELS)
    return postprocessing.find_detections(class_ids, scores, masks, view, threshold, LABELS)


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("seed", [0, 1])
def test_detections_are_those_of_the_definition(postprocessing, geometry, stride, seed):
    class_ids, scores, masks = random_outputs(seed, 64 // stride)
    pixels = slow_pixels(masks, geometry, 64)

    detections = detect(postprocessing, class_ids, scores, masks, geometry, threshold=0.3)

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
        assert detection["label"] == f"class {class_ids[query]}"


@pytest.mark.parametrize(
    ("cells", "geometry"),
    [
        (np.s_[32:], (32, 64, 32, 64)),  # in the padding alone
        (np.s_[0, 0], (16, 16, 64, 64)),  # the pixel centers fall on rows and columns 2, 6, 10, ...
    ],
)
def test_a_query_without_a_pixel_is_no_detection(postprocessing, cells, geometry):
    masks = np.zeros((64, 64), np.uint8)
    masks[cells] = 1
    scores = np.full(QUERIES, 0.9, np.float32)

    detections = detect(postprocessing, np.arange(QUERIES, dtype=np.int32), scores, masks, geometry)

    assert [detection["cls_id"] for detection in detections] == [0]


def test_two_queries_of_one_class_are_two_detections(postprocessing):
    masks = np.zeros((64, 64), np.uint8)
    masks[:, 32:] = 1
    scores = np.array([0.8, 0.9, *[0.0] * (QUERIES - 2)], np.float32)

    detections = detect(
        postprocessing, np.full(QUERIES, 20, np.int32), scores, masks, (64, 64, 64, 64)
    )

    assert [(d["cls_id"], d["bbox"]) for d in detections] == [
        (20, [32, 0, 64, 64]),
        (20, [0, 0, 32, 64]),
    ]


@pytest.mark.parametrize(
    ("threshold", "count"), [(0.0, 1), (0.25, 1), (0.5, 0), (np.float32(0.5), 0), (1.0, 0)]
)
def test_the_score_must_be_greater_than_the_threshold(postprocessing, threshold, count):
    scores = np.zeros(QUERIES, np.float32)
    scores[0] = 0.5

    detections = detect(
        postprocessing,
        np.zeros(QUERIES, np.int32),
        scores,
        np.zeros((64, 64), np.uint8),
        (64, 64, 64, 64),
        threshold,
    )

    assert len(detections) == count


def batch(count: int, **changes):
    """Arguments of `detect` for images that all look alike."""
    class_ids, scores, masks = random_outputs(0, 64)
    arguments = {
        "class_ids": np.stack([class_ids] * count),
        "scores": np.stack([scores] * count),
        "masks": np.stack([masks] * count),
        "geometry": np.array([[64, 64, 64, 64]] * count, np.int32),
        "threshold": None,
        "labels": LABELS,
        "max_pixels": MAX_PIXELS,
    }
    return arguments | changes


def test_each_image_of_a_batch_has_its_own_geometry_and_threshold(postprocessing):
    class_ids, scores, masks = random_outputs(0, 64)
    geometry = np.array([(48, 64, 48, 64), (300, 200, 64, 43)], np.int32)
    threshold = np.array([[0.2], [0.7]], np.float32)

    both = postprocessing.detect(**batch(2, geometry=geometry, threshold=threshold))

    assert both == [
        detect(postprocessing, class_ids, scores, masks, geometry[index], threshold[index, 0])
        for index in range(2)
    ]
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
        postprocessing.detect(**batch(2, **changes))


def test_the_answer_is_json_with_seconds(postprocessing):
    answer = json.loads(
        postprocessing.to_json([], start=10.0, prepared=10.5, arrival=12, end=12.25)
    )

    assert answer == {
        "detections": [],
        "latency": {"preprocess": 0.5, "inference": 1.5, "postprocess": 0.25},
    }


def test_a_time_that_json_cannot_hold_is_refused(postprocessing):
    with pytest.raises(ValueError, match="JSON"):
        postprocessing.to_json([], start=math.nan, prepared=0, arrival=0, end=0)
