"""Requests to the Python steps of the model repository, and what their answers hold."""

import io
import json

import numpy as np
import triton_python_backend_utils as pb_utils
from google.protobuf import json_format
from PIL import Image

from pem_server.checkout import MODEL_REPOSITORY
from pem_server.model_config import read_model_config


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
    return {
        "class_ids": np.full((len(scores), 100), 20, np.int32),
        "scores": np.array([[score, *[0] * 99] for score in scores], np.float32),
        "masks": np.zeros((len(scores), 640, 640), np.uint8),
        "geometry": np.array([[30, 40, 480, 640] for _ in scores], np.int32),
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
