"""How many bytes of request bodies may be in memory at a time, over both protocols.

Only bytes that have arrived count, so that nobody can take the budget by announcing a large body.
What a body needs while it is answered is up to three times its bytes: the body, the message made of
it, and what is sent to tritonserver.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from grpc import StatusCode

from .refusal import Refusal

MEGABYTE = 1_000_000
DEFAULT_BYTES = 512 * MEGABYTE
RETRY_AFTER_S = 2.0


class Held:
    """What one request holds."""

    def __init__(self, budget: "ByteBudget", owner: str) -> None:
        self._budget, self._owner, self.size = budget, owner, 0

    def grow(self, size: int) -> None:
        """Take `size` bytes more. Raises Refusal where they are not there."""
        self._budget.check(self._owner, size)
        self.size += size
        self._budget.take(self._owner, size)


class ByteBudget:
    """Bytes of bodies in flight. With `share`, one client may hold at most that part of it.

    `on_refusal` is called for each one.
    """

    def __init__(
        self,
        total: int = DEFAULT_BYTES,
        share: float = 1.0,
        on_refusal: Callable[[], None] = lambda: None,
    ) -> None:
        self.total, self._share, self._on_refusal = total, share, on_refusal
        self.used = 0
        self._owners: dict[str, int] = {}

    @contextmanager
    def hold(self, owner: str, announced: int = 0) -> Iterator[Held]:
        """Hold bytes until the block ends. Raises Refusal where `announced` would not fit now."""
        self.check(owner, announced)
        held = Held(self, owner)
        try:
            yield held
        finally:
            self.take(owner, -held.size)

    def check(self, owner: str, size: int) -> None:
        """Raise Refusal where `size` more bytes do not fit."""
        if self.used + size > self.total:
            self._on_refusal()
            raise _used_up(f"{self.total // MEGABYTE} MB", "the server holds")
        if self._owners.get(owner, 0) + size > self.total * self._share:
            self._on_refusal()
            raise _used_up(f"{int(self.total * self._share) // MEGABYTE} MB", "one client holds")

    def take(self, owner: str, size: int) -> None:
        """Count bytes that came, or went (less than 0)."""
        self.used += size
        left = self._owners.get(owner, 0) + size
        if left:
            self._owners[owner] = left
        else:
            self._owners.pop(owner, None)


def _used_up(limit: str, who: str) -> Refusal:
    return Refusal(
        StatusCode.UNAVAILABLE,
        "overload",
        f"the requests that {who} at a time may have {limit}, which are used up; send this image "
        "again later",
        retry_after_s=RETRY_AFTER_S,
    )
