"""The builder's phases as nested progress bars on stderr.

In a log file, which is no terminal, only the two outer levels, and every half minute.
"""

import sys
import threading
from typing import Any

from tqdm import tqdm  # type: ignore[import-untyped]

LOGGED_LEVELS = 2


class Phases:
    """Bars by the names of their phases. Thread-safe, as TensorRT requires.

    After `stop`, every step reports that the build should end.
    """

    def __init__(self) -> None:
        self._bars: dict[str, tuple[Any, int]] = {}  # tqdm, depth
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Make the builder end at its next step."""
        self._stopped.set()

    @property
    def stopped(self) -> bool:
        return self._stopped.is_set()

    def start(self, name: str, parent: str | None, steps: int) -> None:
        """A phase of `steps` steps begins, inside `parent`."""
        with self._lock:
            depth = self._bars[parent][1] + 1 if parent in self._bars else 0
            is_terminal = sys.stderr.isatty()
            bar = tqdm(
                total=steps,
                desc=f"{'  ' * depth}{name}",
                position=depth if is_terminal else 0,  # a log has no lines to go back to
                leave=depth == 0 or not is_terminal,
                mininterval=0.2 if is_terminal else 30.0,  # seconds
                disable=depth >= LOGGED_LEVELS and not is_terminal,
                dynamic_ncols=True,
            )
            self._bars[name] = bar, depth

    def step(self, name: str) -> bool:
        """One step of a phase is done; whether the build goes on."""
        with self._lock:
            if name in self._bars:
                self._bars[name][0].update()
        return not self.stopped

    def finish(self, name: str) -> None:
        """A phase is done, or was abandoned before all its steps were."""
        with self._lock:
            if name in self._bars:
                self._bars.pop(name)[0].close()

    def close(self) -> None:
        """Remove the bars that a failed build left."""
        for name in list(self._bars):
            self.finish(name)
