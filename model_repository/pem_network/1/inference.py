"""The network on a CPU: OpenVINO over the exported graph."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import openvino

OUTPUTS = ("class_ids", "scores", "masks")
PRECISIONS = ("auto", "bf16", "f32")


class Network:
    """A loaded graph; call it with a batch of images."""

    def __init__(self, path: Path, threads: int, precision: str = "auto") -> None:
        """Load the graph at `path`; `threads` 0 takes all cores.

        `precision` "auto" is "bf16" on a processor that multiplies bfloat16 matrices, else "f32".
        FileNotFoundError without the graph, ValueError for another precision or one that the
        processor does not have.
        """
        if not path.is_file():
            raise FileNotFoundError(f"the network must lie at {path}; make it with ./run export")
        core = openvino.Core()
        has_bf16 = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        self.precision = _choose(precision, has_bf16)
        settings = {
            "PERFORMANCE_HINT": "LATENCY",  # one batch at a time has all threads
            "INFERENCE_PRECISION_HINT": self.precision,
        }
        if threads:
            settings["INFERENCE_NUM_THREADS"] = str(threads)
        graph = core.compile_model(path, "CPU", settings)
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


def _choose(wanted: str, has_bf16: bool) -> str:
    if wanted not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {wanted!r}")
    if wanted == "bf16" and not has_bf16:
        raise ValueError(
            "precision bf16 needs a processor with bfloat16, which this one is not; say auto"
        )
    return wanted if wanted != "auto" else "bf16" if has_bf16 else "f32"
