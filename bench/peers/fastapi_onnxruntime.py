"""A plain service: FastAPI takes the upload, ONNX Runtime computes, uvicorn runs it in workers.

The endpoint is a `def`, so FastAPI calls it in its thread pool, and a session may be called from
many threads at once. MODEL and LABELS name files, THREADS is the session's number of threads.
"""

import os
from pathlib import Path
from typing import Any

import onnxruntime
from fastapi import FastAPI, UploadFile
from plain_steps import detections, read_image

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = int(os.environ["THREADS"])
session = onnxruntime.InferenceSession(
    os.environ["MODEL"], options, providers=["CPUExecutionProvider"]
)
labels = Path(os.environ["LABELS"]).read_text(encoding="utf-8").splitlines()
app = FastAPI()


@app.post("/predict")
def predict(image: UploadFile) -> dict[str, Any]:
    """The detections in the uploaded image."""
    fitted, geometry = read_image(image.file.read())
    outputs = session.run(["class_ids", "scores", "masks"], {"image": fitted[None]})
    return detections(*(output[0] for output in outputs), geometry, labels)


@app.get("/health")
def health() -> str:
    """Answers once the session is loaded."""
    return "ok"
