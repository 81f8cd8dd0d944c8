"""Whether another request can be answered in time: the one place that refuses for overload.

A request is accepted if everything before it and itself are expected to be done within the limit.
What that takes is learned: seconds of decoding are estimated from the images' headers, seconds of
the network are the time between two answers while it is busy. Each accepted request is one `with`
block, so that no count can outlive its request.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from grpc import StatusCode

from .refusal import Refusal

WEIGHT = 0.1  # of the newest measurement in the running mean
FIRST_GUESS_S = 0.1  # an image through the network, until the first answers have been timed


class Admission:
    """Accepts requests while they can be answered within `limit_s` seconds."""

    def __init__(
        self, limit_s: float, decoders: int = 1, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.limit_s, self._decoders, self._clock = limit_s, decoders, clock
        self.seconds_per_image = FIRST_GUESS_S
        self._images, self._decoding_s = 0, 0.0  # accepted and not yet answered
        self._last_answer: float | None = None  # while busy without a pause

    @property
    def images(self) -> int:
        """Images that were accepted and not yet answered."""
        return self._images

    @contextmanager
    def accept(self, images: int, decode_s: float, patience_s: float) -> Iterator[None]:
        """Hold a place for a request. Raises Refusal where it would not be answered in time.

        `decode_s`: what decoding its images takes; `patience_s`: how long its client waits.
        """
        expected = self.expected_s(images, decode_s)
        allowed = min(self.limit_s, patience_s)
        if expected > allowed and self._images:
            raise Refusal(
                StatusCode.UNAVAILABLE,
                "overload",
                f"the answer would take {expected:.1f} s, and at most {allowed:.1f} s are allowed; "
                "send this image again later, or to another server",
                retry_after_s=expected - allowed,
            )
        if not self._images:
            self._last_answer = None
        self._images += images
        self._decoding_s += decode_s
        try:
            yield
        finally:
            self._images -= images
            self._decoding_s = self._decoding_s - decode_s if self._images else 0.0

    def expected_s(self, images: int = 1, decode_s: float = 0.0) -> float:
        """How long a request would take that comes now."""
        network = (self._images + images) * self.seconds_per_image
        return network + (self._decoding_s + decode_s) / self._decoders

    def note_answer(self, images: int, seconds: float) -> None:
        """Learn from an answer that took `seconds` since it was sent to tritonserver."""
        now = self._clock()
        # While others wait, the time since the last answer is what one image costs; alone, all of
        # its own time is.
        since = now - self._last_answer if self._last_answer is not None else seconds
        self._last_answer = now
        sample = min(since, seconds) / images
        self.seconds_per_image += WEIGHT * (sample - self.seconds_per_image)
