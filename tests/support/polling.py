"""Waiting for something to become so, which on a busy machine may take its time."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def poll(
    read: Callable[[], T],
    until: Callable[[T], object] = bool,
    *,
    patience_s: float = 120,
    pause_s: float = 0.05,
) -> T:
    """Read again and again until the value is as wanted, and return it.

    When patience is over the last value is returned all the same, for the caller's own assertion
    to show. The limit is there for a test that would never end, and says nothing of speed.
    """
    deadline = time.monotonic() + patience_s
    while not until(value := read()) and time.monotonic() < deadline:
        time.sleep(pause_s)
    return value
