"""The network on a CPU: OpenVINO over the exported graph."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import openvino

OUTPUTS = ("class_ids", "scores", "masks")


class Network:
    """A loaded graph; call it with a batch of images."""

    def __init__(self, path: Path, threads: int) -> None:
        """Load the graph at `path`; `threads` 0 takes all cores. FileNotFoundError without it."""
        if not path.is_file():
            raise FileNotFoundError(f"the network must lie at {path}; make it with ./run export")
        settings = {
            "PERFORMANCE_HINT": "LATENCY",  # one batch at a time has all threads
            # Said aloud, because OpenVINO computes in bfloat16 where the processor can.
            "INFERENCE_PRECISION_HINT": "f32",
        }
        if threads:
            settings["INFERENCE_NUM_THREADS"] = str(threads)
        graph = openvino.Core().compile_model(path, "CPU", settings)
        self._request = graph.create_infer_request()

    def __call__(
        self, images: npt.NDArray[np.uint8]
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
        """Run (N, 640, 640, 3) RGB images.

        Returns class_ids (N, 100) 0-based, scores (N, 100), masks (N, 640, 640) of query indices.
        """
        answers = self._request.infer({"image": images})
        class_ids, scores, masks = (answers[name] for name in OUTPUTS)
        return class_ids, scores, masks
