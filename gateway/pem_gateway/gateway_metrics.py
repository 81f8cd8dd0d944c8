"""What the gateway counts: images offered, answered, refused by reason, abandoned; and seconds."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from .refusal import Refusal

# Why an image is refused or fails. Each is there at 0 from the start, for the rates of Prometheus.
REASONS = (
    "overload", "deadline", "bad_request", "bad_image", "too_large", "draining", "restarting",
    "failed", "unauthenticated", "rate",
)  # fmt: skip

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0, 30.0)


class Arrival:
    """One request that is being worked on. Until it has been read it counts as one image."""

    def __init__(self, offered: Counter, waiting: Gauge) -> None:
        self._offered, self._waiting = offered, waiting
        self.images = 0

    def read(self, images: int) -> None:
        """Count as many images as offered, and as waiting until the request has ended."""
        self.images = images
        self._offered.inc(images)
        self._waiting.inc(images)


class Metrics:
    """Counters of one gateway, in a registry of their own. They count images, not requests."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        self._offered = Counter(
            "pem_gateway_images_offered_total", "Images that arrived", registry=registry
        )
        self._answered = Counter(
            "pem_gateway_images_answered_total", "Images answered", registry=registry
        )
        self._refused = Counter(
            "pem_gateway_images_refused_total",
            "Images refused or failed",
            ["reason"],
            registry=registry,
        )
        for reason in REASONS:
            self._refused.labels(reason)
        self._abandoned = Counter(
            "pem_gateway_images_abandoned_total",
            "Images whose client left before the answer",
            registry=registry,
        )
        self._waiting = Gauge(
            "pem_gateway_images_waiting", "Accepted, not yet answered", registry=registry
        )
        self._seconds = Histogram(
            "pem_gateway_answer_seconds",
            "From request to answer",
            buckets=SECONDS,
            registry=registry,
        )

    @contextmanager
    def request(self) -> Iterator[Arrival]:
        """Count one request by how its block ends."""
        arrival, began = Arrival(self._offered, self._waiting), time.monotonic()
        try:
            yield arrival
            self._answered.inc(arrival.images)
            self._seconds.observe(time.monotonic() - began)
        except Refusal as refusal:
            self._ended(arrival, self._refused.labels(refusal.reason))
            raise
        except asyncio.CancelledError:
            self._ended(arrival, self._abandoned)
            raise
        except Exception:
            self._ended(arrival, self._refused.labels("failed"))
            raise
        finally:
            self._waiting.dec(arrival.images)

    def _ended(self, arrival: Arrival, counter: Counter) -> None:
        if not arrival.images:
            arrival.read(1)
        counter.inc(arrival.images)

    def page(self) -> bytes:
        """What Prometheus reads."""
        return generate_latest(self._registry)
