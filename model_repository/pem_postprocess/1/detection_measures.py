"""What this step tells Prometheus about detections, through Triton's metric API.

Triton adds up what the processes of one model send under one name. Sending takes the step about ten
microseconds a value, so values are gathered and sent once for each `execute`.
"""

import traceback
from collections import Counter
from collections.abc import Sequence
from typing import Any

import triton_python_backend_utils as pb_utils

STEP = "postprocess"
OUTCOMES = ("ok", "bad_request", "cancelled", "failed")
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
DETECTIONS = (0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)  # the network has 100 queries


class DetectionMeasures:
    """Counts images by outcome, and keeps the number of detections and the time of the good ones.

    Without metrics in the server it does nothing: counting must never cost an answer.
    """

    def __init__(self) -> None:
        """Register every series, so that each is there, at 0, before its first event."""
        self._images: Counter[str] = Counter()  # by outcome
        self._seconds: list[float] = []
        self._detections: list[int] = []
        try:
            self._register()
            self._on = True
        except Exception:
            self._turn_off()

    def add(self, outcome: str, images: int = 1) -> None:
        """Count images; `outcome` is one of OUTCOMES."""
        self._images[outcome] += images

    def add_found(self, found: Sequence[Sequence[object]], seconds: float) -> None:
        """Count the images of one request, given each one's detections and `seconds` for all."""
        self.add("ok", len(found))
        self._seconds += [seconds / max(1, len(found))] * len(found)
        self._detections += map(len, found)

    def send(self) -> None:
        """Hand to Triton what was added since the last time."""
        images, self._images = self._images, Counter()
        seconds, self._seconds = self._seconds, []
        detections, self._detections = self._detections, []
        if not self._on:
            return
        try:
            for outcome, count in images.items():
                self._by_outcome[outcome].increment(count)
            for value in seconds:
                self._postprocess_seconds.observe(value)
            for value in detections:
                self._detections_per_image.observe(value)
        except Exception:
            self._turn_off()

    def _register(self) -> None:
        kinds = pb_utils.MetricFamily
        images = kinds("pem_images_total", "Images by step and outcome", kinds.COUNTER)
        self._by_outcome: dict[str, Any] = {
            outcome: images.Metric(labels={"step": STEP, "outcome": outcome})
            for outcome in OUTCOMES
        }
        times = kinds(
            "pem_postprocess_seconds", "Time to make an image's detections", kinds.HISTOGRAM
        )
        self._postprocess_seconds: Any = times.Metric(labels={}, buckets=list(SECONDS))
        found = kinds("pem_detections_per_image", "Detections of an image", kinds.HISTOGRAM)
        self._detections_per_image: Any = found.Metric(labels={}, buckets=list(DETECTIONS))
        self._families = (images, times, found)  # must outlive their series

    def _turn_off(self) -> None:
        self._on = False
        pb_utils.Logger.log_warn(
            f"pem_{STEP} goes on without its metrics: {traceback.format_exc()}"
        )
