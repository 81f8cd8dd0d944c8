"""The camera and the light.

Street coordinates, in metres: X to the right (0 = middle of the road), Y up (0 = ground), Z along
the street (0 = camera). Picture coordinates, in pixels: u to the right, v down, the centre of the
first pixel at (0.5, 0.5). Colours are RGB, 0 = black, 1 = white.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Rng = np.random.RandomState  # its stream is frozen in NumPy; that of `default_rng` may change
Floats = NDArray[np.float32]  # pictures and textures
Reals = NDArray[np.float64]  # points, directions, light
Point = Sequence[float] | NDArray[Any]
Colour = Sequence[float] | NDArray[Any]


@dataclass(frozen=True)
class View:
    """A pinhole camera: `matrix` (3, 4) takes (X, Y, Z, 1) to (u, v, 1) times the depth."""

    height: int
    width: int
    focal: float  # pixels
    eye: Reals  # (3,)
    matrix: Reals

    def project(self, points: Iterable[Point]) -> Reals:
        """(N, 3) street points to (N, 3): u, v, depth in metres. Depth must be positive."""
        if not isinstance(points, np.ndarray):
            points = np.array(list(points), np.float64)
        placed = transform(self.matrix, points)
        placed[:, :2] /= placed[:, 2:]
        return placed

    def depth(self, point: Point) -> float:
        """The distance of a street point before the camera, in metres."""
        a, b, c, d = self.matrix[2]
        return float(a * point[0] + b * point[1] + c * point[2] + d)

    def bands(self, first: int, end: int) -> Iterator[tuple[int, int]]:
        """(top, bottom) of bands of rows from `first` to `end`: small arrays stay in the cache."""
        tall = max(8, 24_000 // self.width)
        for top in range(first, end, tall):
            yield top, min(top + tall, end)

    def horizon(self) -> tuple[int, int]:
        """The first row that has any ground, and the first that has ground only."""
        x, y, z = inverse(self.matrix[:, :3])[1]
        ends = [-(x * u + z) / y for u in (0.5, self.width - 0.5)]
        first, last = math.floor(min(ends)), math.ceil(max(ends)) + 2
        return min(max(first, 0), self.height), min(max(last, 0), self.height)

    def rays(self, top: int, bottom: int) -> tuple[Floats, Floats, Floats]:
        """Directions (X, Y, Z) through the pixel centres of a band of rows, each (h, W)."""
        u = np.arange(self.width)[None, :] + 0.5
        v = np.arange(top, bottom)[:, None] + 0.5
        to_street = inverse(self.matrix[:, :3])
        x, y, z = ((a * u + b * v + c).astype(np.float32) for a, b, c in to_street)
        return x, y, z


def transform(matrix: Reals, points: Reals) -> Reals:
    """A (3, 4) matrix times points (N, 3) with a 1 appended, (N, 3).

    Written out: a BLAS library would wake its threads for this, and round in an order of its own.
    """
    x, y, z = points[:, 0:1], points[:, 1:2], points[:, 2:3]
    placed: Reals = x * matrix[:, 0] + y * matrix[:, 1] + z * matrix[:, 2] + matrix[:, 3]
    return placed


def inverse(matrix: Reals) -> Reals:
    """The inverse of a (3, 3) matrix, written out for the same reasons."""
    (a, b, c), (d, e, f), (g, h, i) = matrix.tolist()
    cofactors = [
        [e * i - f * h, c * h - b * i, b * f - c * e],
        [f * g - d * i, a * i - c * g, c * d - a * f],
        [d * h - e * g, b * g - a * h, a * e - b * d],
    ]
    return np.array(cofactors) / (a * cofactors[0][0] + b * cofactors[1][0] + c * cofactors[2][0])


def make_view(
    height: int, width: int, eye: Point, focal: float, horizon: float, yaw: float, roll: float
) -> View:
    """A camera at `eye`. `focal` and `horizon` (row of the horizon) in pixels, angles in radians.

    The horizon moves by a shifted lens, not by tilting: upright things stay upright.
    """
    c, s = math.cos(yaw), math.sin(yaw)
    turn = np.array([[c, 0, -s], [0, -1, 0], [s, 0, c]])
    lens = np.array([[focal, 0, width / 2], [0, focal, horizon], [0, 0, 1.0]])
    c, s = math.cos(roll), math.sin(roll)
    middle = np.array([[1, 0, width / 2], [0, 1, height / 2], [0, 0, 1.0]])
    tilt = middle @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]]) @ inverse(middle)
    rotation = tilt @ lens @ turn
    place = np.asarray(eye, np.float64)
    return View(height, width, focal, place, np.hstack([rotation, -(rotation @ place)[:, None]]))


@dataclass(frozen=True)
class Light:
    """The light of one scene. `toward_sun` is a unit vector, the colours are (3,)."""

    toward_sun: Reals
    sun: Reals
    ambient: Reals
    haze: Reals  # what far things fade into
    haze_per_metre: float

    def shade(self, normal: Point, lit: float = 1.0) -> Reals:
        """Light on a surface, (3,). `lit` is the share of the sun that reaches it."""
        facing = max(0.0, float(np.dot(normal, self.toward_sun)))
        return self.ambient * (0.8 + 0.2 * float(normal[1])) + self.sun * facing * lit
