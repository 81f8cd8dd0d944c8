"""Detections and class maps are those of the definition, written out pixel by pixel."""

import base64
import io
import json
import math
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from pem_server.step_inputs import InputError

QUERIES, SIDE = 12, 64
LABELS = [f"class {number}" for number in range(150)]
# height, width, fitted_height, fitted_width of images that are shrunk or enlarged.
SIZES = [(64, 64, 64, 64), (97, 131, 47, 64), (300, 200, 64, 43), (7, 11, 41, 64), (1, 1, 64, 64)]
SLIVERS = [(1, 500, 1, 64), (500, 1, 64, 1), (3, 200, 1, 64)]


def map_batch(count=1, side=SIDE, seed=0, threshold=0.3, **changes):
    """Arguments of both steps for images that look alike: queries form blobs, some are missing."""
    dice = np.random.default_rng(seed)
    class_ids, scores = dice.integers(0, 150, QUERIES).astype(np.int32), dice.random(QUERIES)
    places = np.arange(side) * 5 // side
    masks = dice.integers(0, QUERIES - 2, (5, 5))[places][:, places].astype(np.uint8)
    masks[dice.random((side, side)) < 0.02] = QUERIES - 1  # a sprinkle of single cells
    arrays = {"class_ids": class_ids, "scores": scores.astype(np.float32), "masks": masks}
    arrays |= {"geometry": np.full(4, SIDE, np.int32), "threshold": np.full(1, threshold)}
    return {name: np.stack([array] * count) for name, array in arrays.items()} | changes


@pytest.fixture
def detect(load_model):
    """From the arguments to the detections of each image."""
    module = load_model("pem_postprocess", "postprocessing")
    return lambda arguments: module.detect(**arguments, labels=LABELS, max_pixels=1_000_000)


@pytest.fixture
def render(load_model):
    """From the arguments to the class map of each image."""
    module = load_model("pem_render", "rendering")

    def render_maps(arguments):
        images = [open_png(png, "P") for png in module.render(**arguments, max_pixels=1_000_000)]
        colors = module.palette().ravel().tolist()
        assert all(image.getpalette() == colors for image in images)
        return [np.asarray(image) for image in images]

    return render_maps


def open_png(png, mode):
    image = Image.open(io.BytesIO(png))
    assert (image.format, image.mode) == ("PNG", mode)
    return image


def slow_pixels(masks, geometry):
    """(height, width) query of each pixel of the image, by the definition, one by one."""
    height, width, fitted_height, fitted_width = geometry
    stride = SIDE // len(masks)

    def cell(pixel, length, fitted):
        place = math.floor((pixel + Fraction(1, 2)) * fitted / length / stride)
        return min(place, math.ceil(fitted / stride) - 1)

    rows = [cell(y, height, fitted_height) for y in range(height)]
    columns = [cell(x, width, fitted_width) for x in range(width)]
    return masks[np.ix_(rows, columns)]


@pytest.mark.parametrize("geometry", SIZES + SLIVERS)
@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("seed", [0, 1])
def test_both_steps_answer_by_the_definition(detect, render, geometry, stride, seed):
    arguments = map_batch(1, SIDE // stride, seed, geometry=np.array([geometry], np.int32))
    [class_ids], [scores] = arguments["class_ids"], arguments["scores"]
    pixels = slow_pixels(arguments["masks"][0], geometry)
    [class_map] = render(arguments)
    assert np.array_equal(class_map, np.where(scores > 0.3, class_ids + 1, 0)[pixels])
    assert len(np.unique(class_map)) > 1 or pixels.size < 100  # else there is nothing to see
    found = [query for query in np.unique(pixels) if scores[query] > 0.3]
    found.sort(key=lambda query: -scores[query])
    [detections] = detect(arguments)
    for detection, query in zip(detections, found, strict=True):
        assert detection["conf"] == scores[query]
        assert detection["cls_id"] == class_ids[query]
        assert detection["label"] == LABELS[class_ids[query]]
        mask = np.asarray(open_png(base64.b64decode(detection["mask"]), "1"))
        assert (mask == (pixels == query)).all()
        x1, y1, x2, y2 = detection["bbox"]
        inside = mask[y1:y2, x1:x2]
        assert inside.sum() == mask.sum()
        assert all(edge.any() for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]))


@pytest.mark.parametrize(
    ("cells", "geometry"),
    [
        (np.s_[32:], (32, 64, 32, 64)),  # in the padding alone
        (np.s_[0, 0], (16, 16, 64, 64)),  # the pixel centers fall on rows and columns 2, 6, 10, ...
    ],
)
def test_a_query_without_a_pixel_is_no_detection(detect, cells, geometry):
    masks = np.zeros((1, SIDE, SIDE), np.uint8)
    masks[0][cells] = 1
    changes = {"class_ids": np.arange(QUERIES)[None], "scores": np.ones((1, QUERIES))}
    [[detection]] = detect(map_batch(**changes, masks=masks, geometry=np.array([geometry])))
    assert detection["cls_id"] == 0


def halves(scores, class_ids=(20, 20), threshold=0.3):
    """Two queries, each in one half of the image, with these scores and classes."""
    arguments = map_batch(threshold=threshold)
    arguments["masks"][:] = np.arange(SIDE) >= SIDE // 2
    arguments["scores"][0, :2], arguments["class_ids"][0, :2] = scores, class_ids
    return arguments


def test_two_queries_of_one_class_are_two_detections_and_the_best_comes_first(detect):
    [detections] = detect(halves((0.8, 0.9)))
    assert [found["bbox"] for found in detections] == [[32, 0, 64, 64], [0, 0, 32, 64]]
    assert [found["cls_id"] for found in detections] == [20, 20]


@pytest.mark.parametrize(("threshold", "count"), [(0.0, 1), (0.25, 1), (0.5, 0), (1.0, 0)])
def test_the_score_must_be_greater_than_the_threshold(detect, render, threshold, count):
    arguments = halves((0.5, 0), threshold=threshold)
    assert len(detect(arguments)[0]) == count
    assert (render(arguments)[0][0, [0, -1]] == [21 * count, 0]).all()


def test_classes_0_and_149_and_no_query_have_their_values(render):
    arguments = halves((0.6, 0.6), (0, 149))
    arguments["masks"][0, 1:] = 255  # no query
    assert render(arguments)[0][:2, [0, -1]].tolist() == [[1, 150], [0, 0]]


def test_each_image_of_a_batch_has_its_own_geometry_and_threshold(detect, render):
    geometry = np.array([(48, 64, 48, 64), (300, 200, 64, 43)], np.int32)
    threshold = np.array([[0.2], [0.7]], np.float32)
    both = map_batch(2, geometry=geometry) | {"threshold": threshold}
    alone = [{name: array[place] for name, array in both.items()} for place in ([0], [1])]
    assert detect(both) == [detect(one)[0] for one in alone]
    assert len(detect(both)[0]) > len(detect(both)[1]) > 0
    for together, one in zip(render(both), alone, strict=True):
        assert np.array_equal(together, render(one)[0])


@pytest.mark.parametrize(
    ("step", "name", "values", "part"),
    [
        ("both", "threshold", [[0.5], [7]], "image 1 of 2 .*threshold"),
        ("both", "geometry", [[64] * 4, [65] * 4], "image 1 of 2 .*geometry"),
        ("detect", "class_ids", [[150] * QUERIES] * 2, "class_ids.* 149"),
        ("render", "class_ids", [[255] * QUERIES] * 2, "class_ids.* 254"),
    ],
)
def test_bad_inputs_are_refused(detect, render, step, name, values, part):
    steps = {"detect": [detect], "render": [render], "both": [detect, render]}
    for compute in steps[step]:
        with pytest.raises(InputError, match=part):
            compute(map_batch(2) | {name: np.array(values)})


def test_the_answer_is_json_with_seconds(load_model):
    to_json = load_model("pem_postprocess", "postprocessing").to_json
    times = {"start": 10.0, "prepared": 10.5, "arrival": 12, "end": 12.25}
    latency = {"preprocess": 0.5, "inference": 1.5, "postprocess": 0.25}
    assert json.loads(to_json([], **times)) == {"detections": [], "latency": latency}
    with pytest.raises(ValueError, match="JSON"):
        to_json([], **times | {"start": math.nan})
