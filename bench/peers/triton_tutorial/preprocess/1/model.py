"""Bytes of image files to normalised float images, as the tutorial's preprocessing step."""

import numpy as np
import triton_python_backend_utils as pb_utils

from .plain_steps import read_image

MEAN = np.array((123.675, 116.28, 103.53), np.float32)
STD = np.array((58.395, 57.12, 57.375), np.float32)


class TritonPythonModel:
    def execute(self, requests):
        return [_respond(request) for request in requests]


def _respond(request):
    files = pb_utils.get_input_tensor_by_name(request, "input_image").as_numpy()  # (N, length)
    read = [read_image(file.tobytes()) for file in files]
    images = np.stack([((image - MEAN) / STD).transpose(2, 0, 1) for image, _ in read])
    geometry = np.array([geometry for _, geometry in read], np.int32)  # (N, 4)
    return pb_utils.InferenceResponse(
        [
            pb_utils.Tensor("preprocessed_image", np.ascontiguousarray(images, np.float32)),
            pb_utils.Tensor("geometry", geometry),
        ]
    )
