"""The class map shows what the detections say, pixel by pixel."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from pem_server.step_inputs import InputError

QUERIES = 12
MAX_PIXELS = 1_000_000

# height, width, fitted_height, fitted_width on an input of side 64: shrunk, enlarged, slivers.
GEOMETRIES = [
    (64, 64, 64, 64),
    (97, 131, 47, 64),
    (300, 200, 64, 43),
    (7, 11, 41, 64),
    (1, 1, 64, 64),
    (1, 500, 1, 64),
    (500, 1, 64, 1),
]


@pytest.fixture
def rendering(load_model):
    return load_model("pem_render", "rendering")


@pytest.fixture
def postprocessing(load_model):
    return load_model("pem_postprocess", "postprocessing")


def batch(count: int, side: int = 64, **changes):
    """Arguments of `render`: random queries in blocks, scores from 0 to 1."""
    dice = np.random.default_rng(3)
    places = np.arange(side) * 5 // side
    coarse = dice.integers(0, QUERIES, (count, 5, 5)).astype(np.uint8)
    arguments = {
        "class_ids": dice.integers(0, 150, (count, QUERIES)).astype(np.int32),
        "scores": dice.random((count, QUERIES)).astype(np.float32),
        "masks": coarse[:, places][:, :, places],
        "geometry": np.array([[64, 64, 64, 64]] * count, np.int32),
        "threshold": None,
        "max_pixels": MAX_PIXELS,
    }
    return arguments | changes


def decoded(png: bytes) -> np.ndarray:
    image = Image.open(io.BytesIO(png))
    assert image.format == "PNG"
    assert image.mode == "P"
    return np.asarray(image)


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("stride", [1, 2, 4])
def test_the_image_shows_the_classes_of_the_detections(rendering, postprocessing, geometry, stride):
    arguments = batch(1, 64 // stride, geometry=np.array([geometry], np.int32))
    labels = [""] * 150
    [detections] = postprocessing.detect(**arguments, labels=labels)
    expected = np.zeros(geometry[:2], np.uint8)
    for detection in detections:
        file = io.BytesIO(base64.b64decode(detection["mask"]))
        expected[np.asarray(Image.open(file))] = detection["cls_id"] + 1

    [png] = rendering.render(**arguments)

    assert (decoded(png) == expected).all()
    assert len(np.unique(expected)) > 1 or expected.size < 100  # else there is nothing to see


def test_classes_0_and_149_and_nothing_have_their_values(rendering):
    masks = np.repeat(np.array([0, 1, 2, 255], np.uint8), 16)  # 255 is no query
    class_ids = np.zeros((1, QUERIES), np.int32)
    class_ids[0, 1] = 149
    scores = np.array([[0.6, 0.6, 0.5, *[1.0] * (QUERIES - 3)]], np.float32)

    [png] = rendering.render(
        **batch(1, masks=np.tile(masks, (1, 64, 1)), class_ids=class_ids, scores=scores)
    )

    assert decoded(png)[0, ::16].tolist() == [1, 150, 0, 0]


def test_each_image_of_a_batch_has_its_own_geometry_and_threshold(rendering):
    geometry = np.array([(48, 64, 48, 64), (300, 200, 64, 43)], np.int32)

    first, second = rendering.render(
        **batch(2, geometry=geometry, threshold=np.array([[0.0], [1.0]], np.float32))
    )

    assert decoded(first).shape == (48, 64)
    assert decoded(first).all()
    assert decoded(second).shape == (300, 200)
    assert not decoded(second).any()


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
        rendering.render(**batch(2, **changes))


def test_the_palette_is_in_the_image(rendering):
    [png] = rendering.render(**batch(1))

    colors = Image.open(io.BytesIO(png)).getpalette()

    assert np.reshape(colors, (256, 3)).tolist() == rendering.palette().tolist()
