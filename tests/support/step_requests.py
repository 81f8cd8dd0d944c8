"""Requests to the Python steps of the model repository, and what their answers hold."""

import io
import json
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from google.protobuf import json_format
from PIL import Image

from pem_server.checkout import MODEL_REPOSITORY
from pem_server.model_config import read_model_config

QUERIES = 12  # of `map_batch`
LABELS = [f"class {number}" for number in range(150)]
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


def model_arguments(model: str, **parameters: str) -> dict[str, str]:
    """What the backend passes to `initialize`, with the parameters of config.pbtxt or these."""
    config = read_model_config(MODEL_REPOSITORY / model)
    for name, value in parameters.items():
        config.parameters[name].string_value = value
    fields = json_format.MessageToDict(config, preserving_proto_field_name=True)
    return {"model_config": json.dumps(fields)}


def request(cancelled: bool = False, **arrays: np.ndarray) -> pb_utils.InferenceRequest:
    tensors = [pb_utils.Tensor(name, array) for name, array in arrays.items()]
    return pb_utils.InferenceRequest(tensors, cancelled)


def image_request(*files: bytes, cancelled: bool = False) -> pb_utils.InferenceRequest:
    """A request to pem_preprocess; the backend gives TYPE_STRING as (N, 1) byte strings."""
    return request(cancelled, image=np.array([[file] for file in files], dtype=object))


def outputs(response: pb_utils.InferenceResponse) -> dict[str, np.ndarray]:
    """The tensors of an answer that must not be an error."""
    assert not response.has_error(), response.error().message()
    return {tensor.name(): tensor.as_numpy() for tensor in response.output_tensors()}


def png(width: int, height: int) -> bytes:
    """A red image."""
    file = io.BytesIO()
    Image.new("RGB", (width, height), (255, 0, 0)).save(file, "PNG")
    return file.getvalue()


def network_outputs(*scores: float) -> dict[str, np.ndarray]:
    """Tensors for pem_render: per image one query of class 20 that fills it, with this score."""
    count = len(scores)
    every = np.zeros((count, 100), np.float32)
    every[:, 0] = scores
    return {
        "class_ids": np.full((count, 100), 20, np.int32),
        "scores": every,
        "masks": np.zeros((count, 640, 640), np.uint8),
        "geometry": np.array([[30, 40, 480, 640]] * count, np.int32),
    }


def clock(count: int) -> np.ndarray:
    """(N, 2): pem_preprocess ran for half a second."""
    return np.array([[1.0, 1.5]] * count)


def good_request(model: str, cancelled: bool = False) -> pb_utils.InferenceRequest:
    """A request of one image that the model answers."""
    if model == "pem_preprocess":
        return image_request(png(40, 30), cancelled=cancelled)
    timed = {"clock": clock(1)} if model == "pem_postprocess" else {}
    return request(cancelled, **network_outputs(0.9), **timed)


def map_batch(count: int, side: int = 64, seed: int = 0, **changes: object) -> dict[str, Any]:
    """Arguments of `render` for images that look alike: queries form blobs, some are missing."""
    dice = np.random.default_rng(seed)
    class_ids = dice.integers(0, 150, QUERIES).astype(np.int32)
    scores = dice.random(QUERIES).astype(np.float32)
    coarse = dice.integers(0, QUERIES - 2, (5, 5))
    places = np.arange(side) * 5 // side
    masks = coarse[places][:, places].astype(np.uint8)
    masks[dice.random((side, side)) < 0.02] = QUERIES - 1  # a sprinkle of single cells
    tensors = {"class_ids": class_ids, "scores": scores, "masks": masks}
    return {
        **{name: np.stack([array] * count) for name, array in tensors.items()},
        "geometry": np.array([[64, 64, 64, 64]] * count, np.int32),
        "threshold": None,
        "max_pixels": 1_000_000,
        **changes,
    }
