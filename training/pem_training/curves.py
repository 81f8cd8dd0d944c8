"""What a run writes down as it goes: history.jsonl for programs, TensorBoard files for eyes.

Each line of the history is one step, or one evaluation, numbered by the steps done. A resumed run
forgets what was written after the checkpoint it goes on from, and writes the same again.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray
from torch.utils.tensorboard import SummaryWriter


class Curves:
    """The writers of one run, from the first process only; a context manager."""

    def __init__(self, folder: Path, steps_done: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        history = folder / "history.jsonl"
        kept = _lines_until(history, steps_done)
        self._history = history.open("w", encoding="utf-8")
        self._history.writelines(kept)
        self._history.flush()
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=steps_done + 1)

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers that belong to `step`: losses, rates, scores."""
        self._history.write(json.dumps({"step": step, **values}) + "\n")
        self._history.flush()
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def add_image(self, step: int, name: str, pixels: NDArray[np.uint8]) -> None:
        """An image (H, W, 3)."""
        self._board.add_image(name, pixels, step, dataformats="HWC")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        self._history.close()
        self._board.close()


def _lines_until(history: Path, steps_done: int) -> list[str]:
    """The lines of the first `steps_done` steps; a line that was cut off ends the file."""
    kept: list[str] = []
    if history.is_file():
        for line in history.read_text(encoding="utf-8").splitlines(keepends=True):
            if not line.endswith("\n") or json.loads(line)["step"] > steps_done:
                break
            kept.append(line)
    return kept
