"""How many images may be inside tritonserver at a time, first come, first served."""

import asyncio
from collections import deque
from dataclasses import dataclass, field


@dataclass(eq=False)
class Place:
    """A request's place: `granted` is done when it may go in."""

    images: int
    granted: asyncio.Future[None] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


class FifoWindow:
    """Places for `size` images. A request of more takes all of them."""

    def __init__(self, size: int) -> None:
        self.size = self._free = size
        self._waiting: deque[Place] = deque()

    def enter(self, images: int) -> Place:
        """Ask for a place; `leave` gives it back, whether it was granted or not."""
        place = Place(min(images, self.size))
        self._waiting.append(place)
        self._grant()
        return place

    def leave(self, place: Place) -> None:
        """Give a place back."""
        if place.granted.done() and not place.granted.cancelled():
            self._free += place.images
        else:
            place.granted.cancel()
            if place in self._waiting:
                self._waiting.remove(place)
        self._grant()

    def _grant(self) -> None:
        """A large request waits for its places, and what came later waits behind it."""
        while self._waiting and self._waiting[0].images <= self._free:
            place = self._waiting.popleft()
            if not place.granted.cancelled():
                self._free -= place.images
                place.granted.set_result(None)
