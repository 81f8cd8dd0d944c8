"""Triton adapter of `preprocessing`: encoded images to fitted images, geometries and clocks."""

import json
import time
import traceback

import numpy as np
import triton_python_backend_utils as pb_utils

from pem_server.step_metrics import DECODE_SECONDS, IMAGE_PIXELS, StepMetrics

from .preprocessing import ImageError, Limits, prepare


class TritonPythonModel:
    def initialize(self, args):
        config = json.loads(args["model_config"])
        parameters = config["parameters"]
        self.limits = Limits(
            max_bytes=int(parameters["max_image_bytes"]["string_value"]),
            max_pixels=int(parameters["max_image_pixels"]["string_value"]),
        )
        self.size = int(pb_utils.get_output_config_by_name(config, "fitted_image")["dims"][0])
        self.metrics = StepMetrics("preprocess", DECODE_SECONDS, IMAGE_PIXELS)

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
            start = time.monotonic()
            image = pb_utils.get_input_tensor_by_name(request, "image").as_numpy()  # (N, 1)
            count = len(image)
            fitted_image, geometry = prepare(image[:, 0], self.limits, self.size)
            end = time.monotonic()
            response = pb_utils.InferenceResponse(
                [
                    pb_utils.Tensor("fitted_image", fitted_image),
                    pb_utils.Tensor("geometry", geometry),
                    pb_utils.Tensor("clock", np.tile([start, end], (count, 1))),  # (N, 2)
                ]
            )
            self.metrics.count("ok", count)
            self.metrics.observe(DECODE_SECONDS, [(end - start) / max(1, count)] * count)
            self.metrics.observe(IMAGE_PIXELS, geometry[:, :2].prod(axis=1, dtype=int).tolist())
            return response
        except ImageError as error:
            self.metrics.count(error.outcome, count)
            return _error(str(error), pb_utils.TritonError.INVALID_ARG)
        except Exception:
            self.metrics.count("failed", count)
            pb_utils.Logger.log_error(traceback.format_exc())
            return _error(
                "pem_preprocess failed; the reason is in the server's log",
                pb_utils.TritonError.INTERNAL,
            )


def _error(message, code):
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, code))
