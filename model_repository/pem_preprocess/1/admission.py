"""Whether another image may come in: only so many decoded ones may wait for the network.

A decoded image takes 1.2 MB while it waits, so the number needs a limit, and an image that cannot
be answered soon is best refused before any work on it. Triton's own limit, a queue policy, stops
prefetching: its batcher then sleeps beside a free process, or holds up the step before it.
"""

import time
from collections.abc import Callable

from pem_server.step_metrics import WaitingImages

# A batch of 8 on a slow CPU takes 4 s. A full queue that has not moved for longer than this is a
# wrong number: its requests were cancelled on the way.
STALE_AFTER_S = 10.0


class OverloadError(Exception):
    """Too many images wait already; the text is a sentence for the client."""


class Admission:
    """Counts images in, and refuses them while `limit` wait; 0 is no limit and counts nothing.

    Without metrics in the server it admits every image.
    """

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Register the gauge, so that it is there, at 0, before the first image."""
        self._limit, self._clock = limit, clock
        self._last_value, self._last_change = 0.0, clock()
        if limit:
            self._waiting = WaitingImages("pem_preprocess continues without its limit", clock)

    def check(self) -> None:
        """Raise OverloadError while the limit is reached."""
        if not self._limit:
            return
        waiting, now = self._waiting.value(), self._clock()
        if waiting != self._last_value:
            self._last_value, self._last_change = waiting, now
        if waiting >= self._limit and now - self._last_change < STALE_AFTER_S:
            raise OverloadError(
                f"{waiting:.0f} images wait for the network, and the limit is {self._limit}; "
                "retry later, or use another server"
            )

    def count(self, images: int) -> None:
        """Count decoded images that go on to the network."""
        if self._limit:
            self._waiting.add(images)
