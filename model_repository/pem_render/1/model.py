"""Triton adapter of `rendering`: index maps to palette PNGs."""

import json
import traceback

import numpy as np
import triton_python_backend_utils as pb_utils

from .rendering import InputError, render


class TritonPythonModel:
    def initialize(self, args):
        parameters = json.loads(args["model_config"])["parameters"]
        self.max_pixels = int(parameters["max_image_pixels"]["string_value"])

    def execute(self, requests):
        return [self._respond(request) for request in requests]

    def _respond(self, request):
        if request.is_cancelled():
            return _failure("the request was cancelled", pb_utils.TritonError.CANCELLED)
        try:
            tensors = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
            tensors.setdefault("threshold", None)
            pictures = render(**tensors, max_pixels=self.max_pixels)
            segmentation = np.array([[picture] for picture in pictures], dtype=object)  # (N, 1)
            return pb_utils.InferenceResponse([pb_utils.Tensor("segmentation", segmentation)])
        except InputError as error:
            return _failure(str(error), pb_utils.TritonError.INVALID_ARG)
        except Exception:
            pb_utils.Logger.log_error(traceback.format_exc())
            return _failure(
                "pem_render failed; the reason is in the server's log",
                pb_utils.TritonError.INTERNAL,
            )


def _failure(sentence, code):
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(sentence, code))
