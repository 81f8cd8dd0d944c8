"""Whether another request can be answered in time: the one place that refuses for overload.

A request is accepted if everything before it and itself are expected to be done within the limit.
What that takes is learned. Seconds of decoding are estimated from the images' headers
(`decode_cost`); seconds of the network are the time between answers while something is inside
tritonserver, over the newest answers. Each accepted request is one `with` block, so that no count
can outlive its request.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from grpc import StatusCode

from .refusal import Refusal

MARGIN = 1.1  # what was learned is a bit off at times
FIRST_GUESS_S = 0.1  # an image through the network, until the first answers have been timed


def loop_time() -> float:
    """The clock of the running event loop, which tests can set."""
    return asyncio.get_running_loop().time()


@dataclass(eq=False)
class Sent:
    """A request inside tritonserver."""

    at: float
    images: int
    decode_s: float


class Admission:
    """Accepts requests while they can be answered within `limit_s` seconds.

    `decoders`: processes that decode; `batch`: images that the network takes at a time.
    """

    def __init__(
        self,
        limit_s: float,
        decoders: int = 1,
        batch: int = 1,
        clock: Callable[[], float] = loop_time,
    ) -> None:
        self.limit_s, self._decoders, self._clock = limit_s, decoders, clock
        self._images, self._decoding_s = 0, 0.0  # accepted and not yet answered
        # The images of a batch are answered at once, so that only whole batches tell what one
        # costs: three of them, or a few images where the network takes them one by one.
        self._memory = max(8, 3 * batch)
        self._answers: deque[tuple[int, float]] = deque()  # images, seconds; the newest
        self._sent: dict[Sent, None] = {}  # in their order
        self._last_answer = float("-inf")

    @property
    def images(self) -> int:
        """Images that were accepted and not yet answered."""
        return self._images

    @property
    def seconds_per_image(self) -> float:
        """Seconds of the network for one of many images, by the newest answers.

        An answer that has been due for longer than that counts already: the machine got slower.
        """
        images = sum(count for count, _ in self._answers)
        learned = sum(each for _, each in self._answers) / images if images else FIRST_GUESS_S
        if not self._sent:
            return learned
        oldest = next(iter(self._sent))
        due = self._clock() - max(oldest.at, self._last_answer) - self._decoding_s / self._decoders
        if due <= learned * self._memory / 2:
            return learned
        return max(learned, (learned * images + due) / (images + oldest.images))

    @contextmanager
    def accept(self, images: int, decode_s: float, patience_s: float) -> Iterator[None]:
        """Hold a place for a request. Raises Refusal where it would not be answered in time.

        `decode_s`: what decoding its images takes; `patience_s`: how long its client waits.
        """
        self._check(images, decode_s, patience_s)
        self._images += images
        self._decoding_s += decode_s
        try:
            yield
        finally:
            self._images -= images
            self._decoding_s = self._decoding_s - decode_s if self._images else 0.0

    def _check(self, images: int, decode_s: float, patience_s: float) -> None:
        if decode_s > self.limit_s:
            raise Refusal(
                StatusCode.INVALID_ARGUMENT,
                "too_large",
                f"decoding would take about {decode_s:.1f} s of a processor, and at most "
                f"{self.limit_s:g} s are allowed; scale the image down, or save it as an ordinary "
                "JPEG",
            )
        if not self._images:  # what was learned may be wrong; only an answer can correct it
            return
        expected, allowed = self.expected_s(images, decode_s), min(self.limit_s, patience_s)
        if expected > allowed:
            raise self.overloaded(expected, allowed)

    def overloaded(self, expected_s: float, allowed_s: float) -> Refusal:
        """The answer to a request that would be answered too late."""
        return Refusal(
            StatusCode.UNAVAILABLE,
            "overload",
            f"the answer would take {expected_s:.1f} s, and at most {allowed_s:.1f} s are allowed; "
            "send this image again later, or to another server",
            retry_after_s=max(self.seconds_per_image, expected_s - allowed_s),
        )

    def expected_s(self, images: int = 1, decode_s: float = 0.0) -> float:
        """How long a request would take that comes now, on the careful side."""
        network = (self._images + images) * self.seconds_per_image
        return MARGIN * (network + decode_s + self._decoding_s / self._decoders)

    def note_sent(self, images: int, decode_s: float) -> Sent:
        """A request goes into tritonserver; `note_done` ends what this begins."""
        sent = Sent(self._clock(), images, decode_s)
        self._sent[sent] = None
        return sent

    def note_done(self, sent: Sent, *, answered: bool) -> None:
        """Learn from an answer. An error says nothing of what an image costs the network."""
        del self._sent[sent]
        if not answered:
            return
        now = self._clock()
        # While others are before it, the time since their answer; alone, all of its own time.
        seconds = now - max(sent.at, self._last_answer) - sent.decode_s / self._decoders
        self._last_answer = now
        self._answers.append((sent.images, max(0.0, seconds)))
        while sum(count for count, _ in self._answers) - self._answers[0][0] >= self._memory:
            self._answers.popleft()
