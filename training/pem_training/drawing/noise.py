"""Noise: three large tiles made once, from which every texture cuts its piece."""

import functools

import numpy as np
from PIL import Image

from pem_training.drawing.view import Floats, Rng

SIZE = 1024  # pixels of a tile, a power of two; tiles wrap around


@functools.cache
def smooth() -> Floats:
    """(SIZE, SIZE), mean 0, deviation 1: every octave half as strong as the coarser one."""
    return _fractal(seed=1, coarsest=4, persistence=0.5)


@functools.cache
def rough() -> Floats:
    """(SIZE, SIZE), mean 0, deviation 1: the fine octaves as strong as the coarse ones."""
    return _fractal(seed=2, coarsest=64, persistence=0.85)


@functools.cache
def grain() -> Floats:
    """(SIZE, SIZE), mean 0, deviation 1: neighbours have little to do with each other."""
    white = Rng(3).standard_normal((SIZE, SIZE)).astype(np.float32)
    soft: Floats = white + np.float32(0.35) * (
        np.roll(white, 1, axis=0) + np.roll(white, 1, axis=1)
    )
    soft /= soft.std()
    return soft


def cut(rng: Rng, tile: Floats, height: int, width: int) -> Floats:
    """A piece of a tile at a random place, (height, width)."""
    down, right = rng.randint(SIZE), rng.randint(SIZE)
    if down + height <= SIZE and right + width <= SIZE:
        return tile[down : down + height, right : right + width]
    rows = (np.arange(height) + down) % SIZE
    columns = (np.arange(width) + right) % SIZE
    return tile[rows[:, None], columns]


def look_up(tile: Floats, x: Floats, y: Floats) -> Floats:
    """The tile at the coordinates `x`, `y` (pixels of the tile, any size, wrapped around)."""
    return tile[y.astype(np.int32) & (SIZE - 1), x.astype(np.int32) & (SIZE - 1)]


def _fractal(seed: int, coarsest: int, persistence: float) -> Floats:
    rng, total, weight = Rng(seed), np.zeros((SIZE, SIZE), np.float32), 1.0
    cells = coarsest
    while cells <= SIZE:
        total += np.float32(weight) * _octave(rng, cells)
        weight, cells = weight * persistence, cells * 2
    total -= total.mean()
    total /= total.std()
    return total


def _octave(rng: Rng, cells: int) -> Floats:
    """Random values on a grid of `cells`, smoothly enlarged so that the edges meet."""
    grid = np.pad(rng.uniform(-1, 1, (cells, cells)).astype(np.float32), 4, mode="wrap")
    cell = SIZE // cells
    large = Image.fromarray(grid).resize((grid.shape[1] * cell,) * 2, Image.Resampling.BICUBIC)
    inner: Floats = np.asarray(large)[4 * cell :, 4 * cell :][:SIZE, :SIZE]
    return inner
