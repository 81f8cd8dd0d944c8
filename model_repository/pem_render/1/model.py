"""Triton adapter of `rendering`: index maps to palette PNGs."""

import json
import traceback

import numpy as np
import triton_python_backend_utils as pb_utils

from pem_server.step_inputs import InputError
from pem_server.step_metrics import StepMetrics

from .rendering import render


class TritonPythonModel:
    def initialize(self, args):
        parameters = json.loads(args["model_config"])["parameters"]
        self.max_pixels = int(parameters["max_image_pixels"]["string_value"])
        self.metrics = StepMetrics("render")

    def execute(self, requests):
        responses = [self._respond(request) for request in requests]
        self.metrics.send()
        return responses

    def _respond(self, request):
        if request.is_cancelled():
            self.metrics.count("cancelled")
            return _error("the request was cancelled", pb_utils.TritonError.CANCELLED)
        count = 1  # until the tensors are read
        try:
            tensors = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
            count = len(tensors["scores"])
            tensors.setdefault("threshold", None)
            images = render(**tensors, max_pixels=self.max_pixels)
            segmentation = np.array([[image] for image in images], dtype=object)  # (N, 1)
            response = pb_utils.InferenceResponse([pb_utils.Tensor("segmentation", segmentation)])
            self.metrics.count("ok", count)
            return response
        except InputError as error:
            self.metrics.count("bad_request", count)
            return _error(str(error), pb_utils.TritonError.INVALID_ARG)
        except Exception:
            self.metrics.count("failed", count)
            pb_utils.Logger.log_error(traceback.format_exc())
            return _error(
                "pem_render failed; the reason is in the server's log",
                pb_utils.TritonError.INTERNAL,
            )


def _error(message, code):
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, code))
