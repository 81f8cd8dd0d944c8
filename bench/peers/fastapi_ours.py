"""FastAPI around the project's own steps and its own engine: all is ours but the server.

What this and the project's Triton server differ by is what the server does. REPOSITORY is the model
repository, THREADS and PRECISION are the network's. One image at a time is in the engine: a
compiled network has one request, and all cores are busy with it.
"""

import importlib
import os
import sys
import time
from pathlib import Path
from threading import Lock
from types import ModuleType

import numpy as np
from fastapi import FastAPI, Response, UploadFile

REPOSITORY = Path(os.environ["REPOSITORY"])
MOST = 1 << 26  # bytes, and pixels, of an image


def step(model: str, name: str) -> ModuleType:
    """A module of one of the repository's models, which are packages to Triton only."""
    package = ModuleType(f"served_{model}")
    package.__path__ = [str(REPOSITORY / model / "1")]
    sys.modules[package.__name__] = package
    return importlib.import_module(f"{package.__name__}.{name}")


preprocessing = step("pem_preprocess", "preprocessing")
inference = step("pem_network", "openvino_network")
postprocessing = step("pem_postprocess", "postprocessing")
labels = (REPOSITORY / "pem_postprocess" / "labels.txt").read_text(encoding="utf-8").splitlines()
limits = preprocessing.Limits(max_bytes=MOST, max_pixels=MOST)
network = inference.Network(
    REPOSITORY / "pem_network" / "1" / "model.onnx",
    int(os.environ["THREADS"]),
    os.environ["PRECISION"],
)
network(np.zeros((1, 640, 640, 3), np.uint8))  # warm, as Triton's warm-up does
one_at_a_time = Lock()
app = FastAPI()


@app.post("/predict")
def predict(image: UploadFile) -> Response:
    """The detections in the uploaded image."""
    start = time.monotonic()
    fitted, geometry = preprocessing.prepare([image.file.read()], limits, 640)
    prepared = time.monotonic()
    with one_at_a_time:
        answers = [np.array(each) for each in network(fitted)]
    arrival = time.monotonic()
    (found,) = postprocessing.detect(*answers, geometry, None, labels, MOST)
    answer = postprocessing.to_json(found, start, prepared, arrival, time.monotonic())
    return Response(answer, media_type="application/json")


@app.get("/health")
def health() -> str:
    """Answers once the network is warm."""
    return "ok"
