"""Logits to detections: the card's reading in PyTorch, then the plain way to JSON."""

import json
import os
from pathlib import Path

import numpy as np
import torch
import triton_python_backend_utils as pb_utils

from .plain_steps import SIZE, detections


class TritonPythonModel:
    def initialize(self, args):
        labels = Path(__file__).with_name("labels.txt")
        self.labels = labels.read_text(encoding="utf-8").splitlines()
        torch.set_num_threads(len(os.sched_getaffinity(0)))

    def execute(self, requests):
        return [self._respond(request) for request in requests]

    def _respond(self, request):
        class_logits, mask_logits, geometry = (
            pb_utils.get_input_tensor_by_name(request, name).as_numpy()
            for name in ("class_logits", "mask_logits", "geometry")
        )
        answers = [
            [json.dumps(detections(*read(*logits), tuple(sizes.tolist()), self.labels)).encode()]
            for *logits, sizes in zip(class_logits, mask_logits, geometry, strict=True)
        ]
        return pb_utils.InferenceResponse(
            [pb_utils.Tensor("detections", np.array(answers, dtype=object))]  # (N, 1)
        )


def read(class_logits, mask_logits):
    """(100, 151) and (100, 160, 160) to class_ids (100,), scores (100,), masks (640, 640)."""
    with torch.inference_mode():
        probabilities = torch.from_numpy(class_logits).softmax(dim=-1)[:, :-1]
        scores, class_ids = probabilities.max(dim=-1)
        shares = torch.from_numpy(mask_logits).sigmoid() * scores[:, None, None]
        large = torch.nn.functional.interpolate(
            shares[None], size=(SIZE, SIZE), mode="bilinear", align_corners=False
        )
        masks = large[0].argmax(dim=0)
    return class_ids.numpy(), scores.numpy(), masks.numpy()
