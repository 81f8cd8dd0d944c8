"""The log of a training run: history.jsonl for programs, TensorBoard files for people.

Each line of the history is one step, or one evaluation, numbered by the steps done. A resumed run
drops what was written after its checkpoint, and writes the same again.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

from pem_client import class_colour

Pixels = NDArray[np.uint8]


class RunLog:
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
        """Numbers that belong to `step`: losses, rates, scores. What is not finite becomes null."""
        finite = {k: value if math.isfinite(value) else None for k, value in values.items()}
        self._history.write(json.dumps({"step": step, **finite}) + "\n")
        self._history.flush()
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def add_image(self, step: int, name: str, pixels: Pixels) -> None:
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


def side_by_side(image: Image.Image, truth: Pixels, prediction: Pixels) -> Pixels:
    """The image (H, 2 W, 3) under the colors of `truth` and of `prediction`, (H, W) labels."""
    return np.concatenate([_tint(image, labels) for labels in (truth, prediction)], axis=1)


def _tint(image: Image.Image, labels: Pixels) -> Pixels:
    """Half image, half color of the class; what has no label stays as it is."""
    colors = np.array([(0, 0, 0), *(class_colour(number) for number in range(255))], np.uint16)
    pixels = np.asarray(image, np.uint16)  # (H, W, 3)
    mixed = np.where(labels[..., None] > 0, (pixels + colors[labels]) // 2, pixels)
    return mixed.astype(np.uint8)
