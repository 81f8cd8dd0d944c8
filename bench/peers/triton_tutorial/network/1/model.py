"""The exported network in ONNX Runtime: float images to class logits and mask logits."""

from pathlib import Path

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils

OUTPUTS = ("class_logits", "mask_logits")


class TritonPythonModel:
    def initialize(self, args):
        self.session = onnxruntime.InferenceSession(
            Path(__file__).with_name("model.onnx"), providers=["CPUExecutionProvider"]
        )

    def execute(self, requests):
        images = [
            pb_utils.get_input_tensor_by_name(request, "image").as_numpy() for request in requests
        ]
        outputs = self.session.run(OUTPUTS, {"image": np.concatenate(images)})
        ends = np.cumsum([len(batch) for batch in images])[:-1]
        split = zip(*(np.split(output, ends) for output in outputs), strict=True)
        return [
            pb_utils.InferenceResponse(
                [
                    pb_utils.Tensor(name, np.ascontiguousarray(array))
                    for name, array in zip(OUTPUTS, own, strict=True)
                ]
            )
            for own in split
        ]
