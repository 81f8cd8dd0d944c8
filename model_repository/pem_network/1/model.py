"""Triton adapter of `openvino_network`: the images of all requests in one run of the network."""

import json
import traceback
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils

from .openvino_network import OUTPUTS, Network


class TritonPythonModel:
    def initialize(self, args):
        parameters = json.loads(args["model_config"])["parameters"]
        threads = int(parameters["threads"]["string_value"])
        precision = parameters["precision"]["string_value"]
        try:
            self.network = Network(Path(__file__).with_name("model.onnx"), threads, precision)
        except (FileNotFoundError, ValueError) as error:
            raise pb_utils.TritonModelException(str(error)) from None
        pb_utils.Logger.log_info(f"pem_network computes in {self.network.precision}")

    def execute(self, requests):
        active = [request for request in requests if not request.is_cancelled()]
        responses = dict(zip(map(id, active), self._respond(active), strict=True))
        cancelled = ("the request was cancelled", pb_utils.TritonError.CANCELLED)
        return [responses.get(id(request)) or _error(*cancelled) for request in requests]

    def _respond(self, requests):
        if not requests:
            return []
        try:
            images = [_images(request) for request in requests]
            outputs = self.network(np.concatenate(images))
            ends = np.cumsum([len(batch) for batch in images])[:-1]
            split = (np.split(output, ends) for output in outputs)
            return [_response(arrays) for arrays in zip(*split, strict=True)]
        except Exception:
            pb_utils.Logger.log_error(traceback.format_exc())
            message = "pem_network failed; the reason is in the server's log"
            return [_error(message, pb_utils.TritonError.INTERNAL) for _ in requests]


def _images(request):
    """(N, 640, 640, 3); Triton has checked the shape."""
    return pb_utils.get_input_tensor_by_name(request, "image").as_numpy()


def _response(arrays):
    named = zip(OUTPUTS, arrays, strict=True)
    return pb_utils.InferenceResponse([pb_utils.Tensor(name, array) for name, array in named])


def _error(message, code):
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, code))
