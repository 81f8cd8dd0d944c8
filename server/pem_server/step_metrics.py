"""What the Python steps report to Prometheus, through Triton's metric API.

Runs inside the server, in the steps' own processes. Metrics can be off in the server or fail; a
step then logs one warning and answers without them.
"""

import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import triton_python_backend_utils as pb_utils

WAITING_IMAGES = "pem_images_waiting"
# A busy network starts the next batch within milliseconds. After a longer pause its queue was
# empty, whatever the gauge shows: requests cancelled on the way were added and never removed.
IDLE_S = 0.2


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
    "preprocess": ("ok", "bad_image", "too_large", "overload", "cancelled", "failed"),
    "postprocess": ("ok", "bad_request", "cancelled", "failed"),
    "render": ("ok", "bad_request", "cancelled", "failed"),
}


class _Metrics:
    """Metrics that turn themselves off at their first failure; `loss` names what then stops."""

    def __init__(self, loss: str) -> None:
        self.enabled = True
        self._loss = loss

    @contextmanager
    def _guard(self) -> Iterator[None]:
        try:
            yield
        except Exception:
            self.enabled = False
            pb_utils.Logger.log_warn(f"{self._loss}: {traceback.format_exc()}")


class StepMetrics(_Metrics):
    """One step's images by outcome, and its histograms.

    Triton adds up the values of all processes of a model. Each takes about ten microseconds to
    report, so values are collected and sent once for each `execute`.
    """

    def __init__(self, step: str, *histograms: Histogram) -> None:
        """Register every series of `step`, a key of OUTCOMES, so that Prometheus sees it at 0."""
        super().__init__(f"pem_{step} continues without its metrics")
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


class WaitingImages(_Metrics):
    """How many decoded images wait for the network: one gauge in the server, for all processes.

    pem_preprocess adds images and refuses more by the gauge (its admission.py); pem_network removes
    those that it takes into a batch.
    """

    def __init__(self, loss: str, clock: Callable[[], float] = time.monotonic) -> None:
        """Register the gauge; `loss` is the warning's text where that fails."""
        super().__init__(loss)
        self._clock, self._idle_since = clock, clock()
        with self._guard():
            family = pb_utils.MetricFamily
            self._family = family(
                WAITING_IMAGES, "Decoded images that wait for pem_network", family.GAUGE
            )
            self._gauge: Any = self._family.Metric(labels={})

    def value(self) -> float:
        """The images that wait; 0 without metrics."""
        if self.enabled:
            with self._guard():
                return float(self._gauge.value())
        return 0.0

    def add(self, images: int) -> None:
        """Decoded images go on to the network."""
        if self.enabled:
            with self._guard():
                self._gauge.increment(images)

    def remove(self, images: int) -> None:
        """The network starts a batch of this many images."""
        if not self.enabled:
            return
        with self._guard():
            idle = self._clock() - self._idle_since > IDLE_S
            if not idle:
                self._gauge.increment(-images)
            if idle or self._gauge.value() < 0:  # below 0: requests sent straight to the network
                self._gauge.set(0)

    def batch_done(self) -> None:
        """The network has answered and waits for its next batch."""
        self._idle_since = self._clock()
