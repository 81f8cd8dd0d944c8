"""The builder's phases as progress bars on stderr, one below the other as they are nested.

In a log, which is no terminal, the two outer levels only, and every half minute.
"""

from __future__ import annotations

import sys
import threading
from dataclasses import dataclass
from typing import Any

from tqdm import tqdm  # type: ignore[import-untyped]

LOGGED_LEVELS = 2


@dataclass
class Phase:
    """One that goes on: its bar, and how deep it is nested."""

    bar: Any  # tqdm
    depth: int


class Phases:
    """Bars by the names of their phases. May be called from several threads, as TensorRT does.

    After `stop`, every step answers that the build should end.
    """

    def __init__(self) -> None:
        self._phases: dict[str, Phase] = {}
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Ask the builder to end at its next step."""
        self._stopped.set()

    @property
    def stopped(self) -> bool:
        return self._stopped.is_set()

    def start(self, name: str, parent: str | None, steps: int) -> None:
        """A phase of `steps` steps begins, inside `parent`."""
        with self._lock:
            above = self._phases.get(parent or "")
            depth = above.depth + 1 if above else 0
            lively = sys.stderr.isatty()
            bar = tqdm(
                total=steps,
                desc=f"{'  ' * depth}{name}",
                position=depth if lively else 0,  # a log has no lines to go back to
                leave=depth == 0 or not lively,
                mininterval=0.2 if lively else 30.0,  # seconds
                disable=depth >= LOGGED_LEVELS and not lively,
                dynamic_ncols=True,
            )
            self._phases[name] = Phase(bar, depth)

    def step(self, name: str) -> bool:
        """One step of a phase is done; whether the build goes on."""
        with self._lock:
            if phase := self._phases.get(name):
                phase.bar.update()
        return not self.stopped

    def finish(self, name: str) -> None:
        """A phase is done, or was given up before all its steps were."""
        with self._lock:
            if phase := self._phases.pop(name, None):
                phase.bar.close()

    def close(self) -> None:
        """Take away what a build that failed left standing."""
        with self._lock:
            for phase in self._phases.values():
                phase.bar.close()
            self._phases.clear()
