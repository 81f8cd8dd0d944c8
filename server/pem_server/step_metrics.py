"""What the Python steps report to Prometheus, through Triton's metric API.

Runs inside the server, in the steps' own processes. Metrics can be off in the server or fail; a
step then logs one warning and answers without them.
"""

import traceback
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import triton_python_backend_utils as pb_utils


class Histogram(NamedTuple):
    """A histogram's name, description and upper bucket bounds."""

    name: str
    description: str
    buckets: tuple[float, ...]


SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
PIXELS = tuple(float(side**2) for side in (256, 512, 1024, 2048, 4096, 8192))
COUNTS = (0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)  # the network has 100 queries

DECODE_SECONDS = Histogram(
    "pem_decode_seconds", "Time to decode and fit an image, in seconds", SECONDS
)
IMAGE_PIXELS = Histogram("pem_image_pixels", "Pixels of an image as it was sent", PIXELS)
POSTPROCESS_SECONDS = Histogram(
    "pem_postprocess_seconds", "Time to make an image's detections", SECONDS
)
DETECTIONS = Histogram("pem_detections_per_image", "Detections of an image", COUNTS)

OUTCOMES = {  # of an image, by step
    "preprocess": ("ok", "bad_image", "too_large", "cancelled", "failed"),
    "postprocess": ("ok", "bad_request", "cancelled", "failed"),
    "render": ("ok", "bad_request", "cancelled", "failed"),
}


class StepMetrics:
    """One step's images by outcome, and its histograms.

    Triton adds up the values of all processes of a model. Each takes about ten microseconds to
    report, so values are collected and sent once for each `execute`.
    """

    def __init__(self, step: str, *histograms: Histogram) -> None:
        """Register every series of `step`, a key of OUTCOMES, so that Prometheus sees it at 0."""
        self.enabled, self._step = True, step
        self._images: Counter[str] = Counter()
        self._values: dict[str, list[float]] = {name: [] for name, *_ in histograms}
        with self._guard():
            self._register(step, histograms)

    def count(self, outcome: str, images: int = 1) -> None:
        """Count images; `outcome` is one of the step's OUTCOMES."""
        self._images[outcome] += images

    def observe(self, histogram: Histogram, values: Iterable[float]) -> None:
        """Add one value for each image."""
        self._values[histogram.name] += values

    def send(self) -> None:
        """Report to Triton what was collected since the last call."""
        images, self._images = self._images, Counter()
        values, self._values = self._values, {name: [] for name in self._values}
        if not self.enabled:
            return
        with self._guard():
            for outcome, count in images.items():
                self._outcomes[outcome].increment(count)
            for name, observed in values.items():
                for value in observed:
                    self._histograms[name].observe(value)

    def _register(self, step: str, histograms: Iterable[Histogram]) -> None:
        family = pb_utils.MetricFamily
        images = family("pem_images_total", "Images by step and outcome", family.COUNTER)
        self._outcomes: dict[str, Any] = {
            outcome: images.Metric(labels={"step": step, "outcome": outcome})
            for outcome in OUTCOMES[step]
        }
        self._families = [images]  # must outlive their series
        self._histograms: dict[str, Any] = {}
        for name, description, buckets in histograms:
            self._families.append(family(name, description, family.HISTOGRAM))
            series = self._families[-1].Metric(labels={}, buckets=list(buckets))
            self._histograms[name] = series

    @contextmanager
    def _guard(self) -> Iterator[None]:
        """Turn the metrics off at their first failure."""
        try:
            yield
        except Exception:
            self.enabled = False
            pb_utils.Logger.log_warn(
                f"pem_{self._step} continues without its metrics: {traceback.format_exc()}"
            )
