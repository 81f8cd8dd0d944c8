"""Whether another image may come in: only so many decoded ones may wait for the network.

A decoded image waits in 1.2 MB, so the number must have a limit, and an image that cannot be
answered soon is best refused before any work on it. Triton's own limit, a queue policy, stops
prefetching: its batcher then sleeps beside a free process, or holds up the step before it.

The number is the gauge pem_images_waiting in Triton's metric API, which the server keeps for all
processes: this step raises it, pem_network lowers it when it takes images up.
"""

import time
import traceback
from collections.abc import Callable
from typing import Any

import triton_python_backend_utils as pb_utils

GAUGE = "pem_images_waiting"
# A batch of 8 on a slow processor takes 4 s. A full queue of which nothing was taken up for longer
# than this is a wrong number: of requests that were given up on the way.
STALE_AFTER_S = 10.0


class OverloadError(Exception):
    """Too many images wait already; the text is a sentence for the client."""


class Admission:
    """Counts images in, and refuses them while `limit` wait; 0 is no limit and counts nothing.

    Without metrics in the server it lets all in.
    """

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Register the gauge, so that it is there, at 0, before the first image."""
        self._limit, self._clock = limit, clock
        self._on = limit > 0
        self._seen, self._seen_since = 0.0, clock()
        if not self._on:
            return
        try:
            kinds = pb_utils.MetricFamily
            self._family = kinds(GAUGE, "Decoded images that wait for pem_network", kinds.GAUGE)
            self._gauge: Any = self._family.Metric(labels={})
        except Exception:
            self._turn_off()

    def check(self) -> None:
        """Raise OverloadError while as many images wait as may."""
        if not self._on:
            return
        try:
            waiting = self._gauge.value()
        except Exception:
            self._turn_off()
            return
        now = self._clock()
        if waiting != self._seen:
            self._seen, self._seen_since = waiting, now
        if waiting >= self._limit and now - self._seen_since < STALE_AFTER_S:
            raise OverloadError(
                f"at most {self._limit} images may wait for the network, and {waiting:.0f} do; "
                "send this one again later, or to another server"
            )

    def count(self, images: int) -> None:
        """Note that so many decoded images go on to the network."""
        if not self._on:
            return
        try:
            self._gauge.increment(images)
        except Exception:
            self._turn_off()

    def _turn_off(self) -> None:
        self._on = False
        pb_utils.Logger.log_warn(
            f"pem_preprocess goes on without a limit of waiting images: {traceback.format_exc()}"
        )
