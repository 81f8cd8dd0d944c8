"""Progress bars on stderr: lively in a terminal, a line now and then in a log."""

import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm  # type: ignore[import-untyped]


def bar(items: Iterable[Any], text: str, total: int, **options: Any) -> "tqdm[Any]":
    """`items`, with a bar that counts them to `total`."""
    interval = 0.2 if sys.stderr.isatty() else 30.0  # seconds
    return tqdm(items, text, total, mininterval=interval, dynamic_ncols=True, **options)


def say(text: str) -> None:
    """A line on stderr that does not tear a bar apart."""
    tqdm.write(text, file=sys.stderr)
