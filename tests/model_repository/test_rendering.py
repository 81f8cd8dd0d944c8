"""The class map shows what the detections say, pixel by pixel."""

import base64
import io

import numpy as np
import pytest
from PIL import Image
from step_requests import GEOMETRIES, LABELS, QUERIES, map_batch

from pem_server.step_inputs import InputError


@pytest.fixture
def rendering(load_model):
    return load_model("pem_render", "rendering")


def decoded(png: bytes) -> np.ndarray:
    image = Image.open(io.BytesIO(png))
    assert (image.format, image.mode) == ("PNG", "P")
    return np.asarray(image)


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("stride", [1, 2, 4])
def test_the_image_shows_the_classes_of_the_detections(rendering, load_model, geometry, stride):
    arguments = map_batch(1, 64 // stride, geometry=np.array([geometry], np.int32))
    postprocessing = load_model("pem_postprocess", "postprocessing")
    [detections] = postprocessing.detect(**arguments, labels=LABELS)
    expected = np.zeros(geometry[:2], np.uint8)
    for detection in detections:
        file = io.BytesIO(base64.b64decode(detection["mask"]))
        expected[np.asarray(Image.open(file))] = detection["cls_id"] + 1
    [png] = rendering.render(**arguments)
    assert (decoded(png) == expected).all()
    assert len(np.unique(expected)) > 1 or expected.size < 100  # else there is nothing to see
    assert np.reshape(Image.open(io.BytesIO(png)).getpalette(), (256, 3)).tolist() == (
        rendering.palette().tolist()
    )


def test_classes_0_and_149_and_nothing_have_their_values(rendering):
    masks = np.repeat(np.array([0, 1, 2, 255], np.uint8), 16)  # 255 is no query
    class_ids = np.zeros((1, QUERIES), np.int32)
    class_ids[0, 1] = 149
    scores = np.array([[0.6, 0.6, 0.5, *[1.0] * (QUERIES - 3)]], np.float32)
    changes = {"masks": np.tile(masks, (1, 64, 1)), "class_ids": class_ids, "scores": scores}
    [png] = rendering.render(**map_batch(1, **changes))
    assert decoded(png)[0, ::16].tolist() == [1, 150, 0, 0]


def test_each_image_of_a_batch_has_its_own_geometry_and_threshold(rendering):
    geometry = np.array([(48, 64, 48, 64), (300, 200, 64, 43)], np.int32)
    threshold = np.array([[0.0], [1.0]], np.float32)
    images = rendering.render(**map_batch(2, geometry=geometry, threshold=threshold))
    first, second = map(decoded, images)
    assert (first.shape, second.shape) == ((48, 64), (300, 200))
    assert first.all()
    assert not second.any()


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"threshold": np.array([[0.5], [7]], np.float32)}, "image 1 of 2 .*threshold"),
        ({"geometry": np.full((2, 4), 65, np.int32)}, "image 0 of 2 .*geometry"),
        ({"class_ids": np.full((2, QUERIES), 255, np.int32)}, "class_ids.* 254"),
    ],
)
def test_bad_inputs_are_refused(rendering, changes, part):
    with pytest.raises(InputError, match=part):
        rendering.render(**map_batch(2, **changes))
