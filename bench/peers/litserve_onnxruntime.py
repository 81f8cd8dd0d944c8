"""LitServe around the exported graph in ONNX Runtime, with its batching on.

MODEL and LABELS name files, PORT is where it listens, THREADS is the session's number of threads,
WORKERS the number of processes that hold one.
"""

import os
from pathlib import Path
from typing import Any

import litserve
import numpy as np
import onnxruntime
from fastapi import Request
from plain_steps import Geometry, detections, read_image

MAX_BATCH_SIZE = 8
BATCH_TIMEOUT_S = 0.01  # how long a batch waits for company

Image = tuple[np.ndarray, Geometry]


class Segmentation(litserve.LitAPI):
    def setup(self, device: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(os.environ["THREADS"])
        self.session = onnxruntime.InferenceSession(
            os.environ["MODEL"], options, providers=["CPUExecutionProvider"]
        )
        self.labels = Path(os.environ["LABELS"]).read_text(encoding="utf-8").splitlines()

    def decode_request(self, request: Request) -> Image:
        return read_image(request["image"].file.read())

    def batch(self, inputs: list[Image]) -> tuple[np.ndarray, list[Geometry]]:
        images, geometries = zip(*inputs, strict=True)
        return np.stack(images), list(geometries)

    def predict(self, batch: tuple[np.ndarray, list[Geometry]]) -> list[tuple[Any, ...]]:
        images, geometries = batch
        outputs = self.session.run(["class_ids", "scores", "masks"], {"image": images})
        return list(zip(*outputs, geometries, strict=True))

    def unbatch(self, output: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        return output

    def encode_response(self, output: tuple[Any, ...]) -> dict[str, Any]:
        return detections(*output, self.labels)


if __name__ == "__main__":
    api = Segmentation(max_batch_size=MAX_BATCH_SIZE, batch_timeout=BATCH_TIMEOUT_S)
    server = litserve.LitServer(
        api, accelerator="cpu", workers_per_device=int(os.environ["WORKERS"]), timeout=False
    )
    server.run(host="127.0.0.1", port=int(os.environ["PORT"]), generate_client_file=False)
