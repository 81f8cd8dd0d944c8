"""The network on a CPU: OpenVINO runs the exported graph in the CPU's fastest precision."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

# mypy gets these files one by one, in no package.
from .cpu_features import (  # type: ignore[import-not-found]
    choose_precision,
    detect_cpu,
    openvino_core,
)
from .int8_graph import quantize_graph, read_ranges  # type: ignore[import-not-found]
from .unstable_topk import allow_unstable_topk  # type: ignore[import-not-found]

OUTPUTS = ("class_ids", "scores", "masks")


class Network:
    """A loaded graph; call it with a batch of images."""

    def __init__(self, path: Path, threads: int, precision: str = "auto") -> None:
        """Load the graph at `path`; `threads` 0 takes all cores.

        `precision` "auto" is the fastest of "int8", "bf16" and "f32" that the CPU has instructions
        for; "int8" also needs model.ranges.json beside the graph. FileNotFoundError without the
        graph, ValueError for a precision that is unknown or not available here.
        """
        if not path.is_file():
            raise FileNotFoundError(f"there is no network at {path}; make it with ./run export")
        core = openvino_core()
        graph = core.read_model(path)
        ranges, no_ranges = read_ranges(path.with_suffix(".ranges.json"), graph)
        self.precision = choose_precision(precision, detect_cpu(core), no_ranges)
        allow_unstable_topk(graph)
        if self.precision.int8:
            quantize_graph(graph, ranges)
        settings = {
            "PERFORMANCE_HINT": "LATENCY",  # one batch at a time has all threads
            "INFERENCE_PRECISION_HINT": self.precision.floats,
        }
        if threads:
            settings["INFERENCE_NUM_THREADS"] = str(threads)
        self._request = core.compile_model(graph, "CPU", settings).create_infer_request()

    def __call__(
        self, images: npt.NDArray[np.uint8]
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
        """Run (N, 640, 640, 3) RGB images, one after the other.

        A batch would take as long, since one image uses all threads, and N times the memory.
        Returns class_ids (N, 100) 0-based, scores (N, 100), masks (N, 640, 640) of query indices.
        """
        outputs = [self._infer(image[None]) for image in images]
        class_ids, scores, masks = map(np.concatenate, zip(*outputs, strict=True))
        return class_ids, scores, masks

    def _infer(self, image: npt.NDArray[np.uint8]) -> list[npt.NDArray[Any]]:
        outputs = self._request.infer({"image": image})
        return [np.array(outputs[name]) for name in OUTPUTS]  # the next call overwrites them
