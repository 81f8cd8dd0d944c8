"""The stub network: a recorded answer after a fixed cost; becomes model.py in a copy.

It exercises queues, batches and the steps around it; it recognizes nothing.
"""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """A batch of N images takes fixed_ms + N * per_image_ms, asleep, so it costs no core."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the cost from the configuration and the answer from the files beside this one."""
        parameters = json.loads(args["model_config"])["parameters"]
        self.fixed_s, self.per_image_s = (
            float(parameters[name]["string_value"]) / 1e3 for name in ("fixed_ms", "per_image_ms")
        )
        with np.load(Path(__file__).with_name("answer.npz")) as recorded:
            self.class_ids = recorded["class_ids"]  # (100,) int32
            self.scores = recorded["scores"]  # (100,) float32
            self.masks = recorded["masks"]  # (640, 640) uint8
        pb_utils.Logger.log_warn(
            f"pem_network is a stub, NOT the network: the same answer to every image after "
            f"{self.fixed_s * 1e3:g} ms + {self.per_image_s * 1e3:g} ms an image"
        )

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer one batch."""
        batches = [
            pb_utils.get_input_tensor_by_name(request, "image").as_numpy() for request in requests
        ]
        count = sum(map(len, batches))
        self._work(count)
        return [self._respond(images) for images in batches]

    def _work(self, count: int) -> None:
        time.sleep(self.fixed_s + count * self.per_image_s)

    def _respond(self, images: Any) -> Any:
        # Scores depend on the image's brightness, so that an answer to the wrong client is noticed.
        brightness = images[:, ::64, ::64].mean(axis=(1, 2, 3), dtype=np.float32) / 255  # (N,)
        scores = self.scores * (0.9 + 0.1 * brightness[:, None])
        class_ids, masks = (
            # Copies only for several images; the backend does not change the array.
            np.ascontiguousarray(np.broadcast_to(array, (len(images), *array.shape)))
            for array in (self.class_ids, self.masks)
        )
        return pb_utils.InferenceResponse(
            [
                pb_utils.Tensor("class_ids", class_ids),
                pb_utils.Tensor("scores", scores.astype(np.float32)),
                pb_utils.Tensor("masks", masks),
            ]
        )
