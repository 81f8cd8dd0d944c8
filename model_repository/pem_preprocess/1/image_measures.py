"""What this step tells Prometheus about images, through Triton's metric API.

Triton adds up what the processes of one model send under one name. Sending takes the step about ten
microseconds a value, so values are gathered and sent once for each `execute`.
"""

import traceback
from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt
import triton_python_backend_utils as pb_utils

STEP = "preprocess"
OUTCOMES = ("ok", "bad_image", "too_large", "overload", "cancelled", "failed")
DECODE_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
IMAGE_PIXELS = tuple(float(side**2) for side in (256, 512, 1024, 2048, 4096, 8192))


class ImageMeasures:
    """Counts images by outcome, and keeps the sizes and decoding times of the good ones.

    Without metrics in the server it does nothing: counting must never cost an answer.
    """

    def __init__(self) -> None:
        """Register every series, so that each is there, at 0, before its first event."""
        self._images: Counter[str] = Counter()  # by outcome
        self._seconds: list[float] = []
        self._pixels: list[int] = []
        try:
            self._register()
            self._on = True
        except Exception:
            self._turn_off()

    def add(self, outcome: str, images: int = 1) -> None:
        """Count images; `outcome` is one of OUTCOMES."""
        self._images[outcome] += images

    def add_prepared(self, geometry: npt.NDArray[np.int32], seconds: float) -> None:
        """Count the N images of one request that took `seconds` together; `geometry` is (N, 4)."""
        self.add("ok", len(geometry))
        self._seconds += [seconds / max(1, len(geometry))] * len(geometry)
        self._pixels += [height * width for height, width, *_ in geometry.tolist()]

    def send(self) -> None:
        """Hand to Triton what was added since the last time."""
        images, self._images = self._images, Counter()
        seconds, self._seconds = self._seconds, []
        pixels, self._pixels = self._pixels, []
        if not self._on:
            return
        try:
            for outcome, count in images.items():
                self._by_outcome[outcome].increment(count)
            for value in seconds:
                self._decode_seconds.observe(value)
            for value in pixels:
                self._image_pixels.observe(value)
        except Exception:
            self._turn_off()

    def _register(self) -> None:
        kinds = pb_utils.MetricFamily
        images = kinds("pem_images_total", "Images by step and outcome", kinds.COUNTER)
        self._by_outcome: dict[str, Any] = {
            outcome: images.Metric(labels={"step": STEP, "outcome": outcome})
            for outcome in OUTCOMES
        }
        decoding = kinds(
            "pem_decode_seconds", "Time to decode and fit an image, in seconds", kinds.HISTOGRAM
        )
        self._decode_seconds: Any = decoding.Metric(labels={}, buckets=list(DECODE_SECONDS))
        sizes = kinds("pem_image_pixels", "Pixels of an image as it was sent", kinds.HISTOGRAM)
        self._image_pixels: Any = sizes.Metric(labels={}, buckets=list(IMAGE_PIXELS))
        self._families = (images, decoding, sizes)  # must outlive their series

    def _turn_off(self) -> None:
        self._on = False
        pb_utils.Logger.log_warn(
            f"pem_{STEP} goes on without its metrics: {traceback.format_exc()}"
        )
