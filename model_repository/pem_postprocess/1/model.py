"""Triton adapter of `postprocessing`: index maps to detections."""

import json
import time
import traceback
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils

from pem_server.step_inputs import InputError
from pem_server.step_metrics import DETECTIONS, POSTPROCESS_SECONDS, StepMetrics

from .postprocessing import detect, to_json

MODEL_FOLDER = Path(__file__).parents[1]


class TritonPythonModel:
    def initialize(self, args):
        parameters = json.loads(args["model_config"])["parameters"]
        self.max_pixels = int(parameters["max_image_pixels"]["string_value"])
        self.labels = (MODEL_FOLDER / "labels.txt").read_text(encoding="utf-8").splitlines()
        self.metrics = StepMetrics("postprocess", POSTPROCESS_SECONDS, DETECTIONS)

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
            arrival = time.monotonic()
            tensors = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
            clocks = tensors.pop("clock")  # (N, 2)
            count = len(clocks)
            tensors.setdefault("threshold", None)
            images = detect(**tensors, labels=self.labels, max_pixels=self.max_pixels)
            end = time.monotonic()
            answers = [
                [to_json(detections, start, prepared, arrival, end)]
                for detections, (start, prepared) in zip(images, clocks.tolist(), strict=True)
            ]
            response = pb_utils.InferenceResponse(
                [pb_utils.Tensor("detections", np.array(answers, dtype=object))]  # (N, 1)
            )
            seconds = (time.monotonic() - arrival) / max(1, count)
            self.metrics.count("ok", count)
            self.metrics.observe(POSTPROCESS_SECONDS, [seconds] * count)
            self.metrics.observe(DETECTIONS, map(len, images))
            return response
        except InputError as error:
            self.metrics.count("bad_request", count)
            return _error(str(error), pb_utils.TritonError.INVALID_ARG)
        except Exception:
            self.metrics.count("failed", count)
            pb_utils.Logger.log_error(traceback.format_exc())
            return _error(
                "pem_postprocess failed; the reason is in the server's log",
                pb_utils.TritonError.INTERNAL,
            )


def _error(message, code):
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, code))
