"""Labelled folders made on the spot."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

MakeFolder = Callable[..., Path]


def blocks(seed: int, height: int, width: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """An image of colored blocks (H, W, 3) and its labels (H, W): each class has its color."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes + 1, size=(height // 16, width // 16))
    labels = np.kron(labels, np.ones((16, 16))).astype(np.uint8)
    colors = np.random.default_rng(99).integers(0, 256, size=(classes + 1, 3))
    noise = random.integers(-9, 10, size=(height, width, 3))
    return np.clip(colors[labels] + noise, 0, 255).astype(np.uint8), labels


@pytest.fixture
def make_folder(tmp_path: Path) -> MakeFolder:
    """Write a folder of the ADE20K layout: so many images of blocks in each split."""

    def make(training: int = 3, validation: int = 2, *, name: str = "data") -> Path:
        for split, count in (("training", training), ("validation", validation)):
            for kind in ("images", "annotations"):
                (tmp_path / name / kind / split).mkdir(parents=True)
            for seed in range(count):
                image, labels = blocks(seed, 48, 64, classes=5)
                Image.fromarray(image).save(tmp_path / name / f"images/{split}/p{seed}.jpg")
                Image.fromarray(labels).save(tmp_path / name / f"annotations/{split}/p{seed}.png")
        return tmp_path / name

    return make
