"""What the gateway counts: images offered, answered, refused by reason, abandoned; and seconds."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from .refusal import Refusal

# Why an image is refused or fails. Each is there at 0 from the start, for the rates of Prometheus.
REASONS = (
    "overload", "deadline", "bad_request", "bad_image", "too_large", "draining", "restarting",
    "failed", "unauthenticated", "rate",
)  # fmt: skip

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0, 30.0)


@dataclass
class Outcome:
    """What became known of a request on the way."""

    images: int = 1


class Metrics:
    """Counters of one gateway, in a registry of their own. They count images, not requests."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        self._offered = Counter(
            "pem_gateway_images_offered", "Images that arrived", registry=registry
        )
        self._answered = Counter(
            "pem_gateway_images_answered", "Images answered", registry=registry
        )
        self._refused = Counter(
            "pem_gateway_images_refused", "Images refused or failed", ["reason"], registry=registry
        )
        for reason in REASONS:
            self._refused.labels(reason)
        self._abandoned = Counter(
            "pem_gateway_images_abandoned",
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
    def request(self) -> Iterator[Outcome]:
        """Count one request by how its block ends."""
        outcome, began = Outcome(), time.monotonic()
        self._waiting.inc()
        try:
            yield outcome
            self._answered.inc(outcome.images)
            self._seconds.observe(time.monotonic() - began)
        except Refusal as refusal:
            self._refused.labels(refusal.reason).inc(outcome.images)
            raise
        except asyncio.CancelledError:
            self._abandoned.inc(outcome.images)
            raise
        finally:
            self._waiting.dec()
            self._offered.inc(outcome.images)

    def page(self) -> bytes:
        """What Prometheus reads."""
        return generate_latest(self._registry)
