"""The kinds of vehicles: side profiles, windows, wheels and paint."""

from dataclasses import dataclass

import numpy as np

from pem_training.drawing.labels import BUS, CAR, TRUCK, VAN
from pem_training.drawing.view import Reals, Rng

LABELS = {"car": CAR, "van": VAN, "bus": BUS, "truck": TRUCK}
PAINTS = [
    (0.10, 0.10, 0.11), (0.55, 0.56, 0.58), (0.72, 0.73, 0.74), (0.80, 0.80, 0.79),
    (0.30, 0.31, 0.33), (0.12, 0.17, 0.34), (0.48, 0.07, 0.07), (0.13, 0.26, 0.20),
    (0.36, 0.08, 0.10), (0.20, 0.32, 0.50),
]  # fmt: skip
BUSES = [(0.62, 0.08, 0.08), (0.15, 0.30, 0.55), (0.78, 0.76, 0.70), (0.20, 0.42, 0.28)]
WHITE = (0.80, 0.80, 0.79)

Section = tuple[float, float, float]  # share of the length from the rear, height, half width


@dataclass(frozen=True)
class Shape:
    """A body; lengths in metres.

    `outline` runs from the rear bottom over the roof to the front bottom. `glass` are the steps of
    the outline that are rear window and windscreen; `belt` is the lower edge of the side windows,
    `panes` their (start, end) as shares of the length, like `wheels`.
    """

    length: float
    outline: tuple[Section, ...]
    glass: tuple[int, ...]
    belt: float
    panes: tuple[tuple[float, float], ...]
    wheels: tuple[float, ...]
    radius: float

    @property
    def top(self) -> float:
        """Metres from the ground to the roof."""
        return max(height for _, height, _ in self.outline)


SHAPES = {
    "hatchback": Shape(
        4.0,
        ((0.0, 0.32, 0.80), (0.0, 0.62, 0.85), (0.02, 0.92, 0.83), (0.10, 1.38, 0.62),
         (0.20, 1.46, 0.60), (0.55, 1.45, 0.60), (0.74, 0.98, 0.80), (0.97, 0.78, 0.80),
         (1.0, 0.55, 0.82), (0.99, 0.30, 0.78)),
        (2, 5), 0.93, ((0.13, 0.38), (0.40, 0.64)), (0.19, 0.81), 0.31,
    ),
    "saloon": Shape(
        4.5,
        ((0.0, 0.32, 0.82), (0.0, 0.65, 0.86), (0.02, 0.96, 0.82), (0.14, 1.0, 0.80),
         (0.27, 1.38, 0.60), (0.38, 1.43, 0.58), (0.55, 1.42, 0.58), (0.72, 0.97, 0.80),
         (0.97, 0.76, 0.80), (1.0, 0.52, 0.84), (0.99, 0.30, 0.80)),
        (3, 6), 0.95, ((0.25, 0.42), (0.44, 0.64)), (0.19, 0.82), 0.32,
    ),
    "estate": Shape(
        4.6,
        ((0.0, 0.36, 0.85), (0.0, 0.72, 0.90), (0.01, 1.02, 0.87), (0.07, 1.58, 0.68),
         (0.16, 1.66, 0.66), (0.58, 1.62, 0.66), (0.73, 1.08, 0.84), (0.97, 0.90, 0.84),
         (1.0, 0.60, 0.86), (0.99, 0.34, 0.82)),
        (2, 5), 1.03, ((0.09, 0.28), (0.30, 0.47), (0.49, 0.66)), (0.18, 0.81), 0.36,
    ),
    "van": Shape(
        5.2,
        ((0.0, 0.40, 0.92), (0.0, 1.0, 0.96), (0.0, 1.25, 0.95), (0.02, 1.95, 0.88),
         (0.04, 2.25, 0.84), (0.70, 2.25, 0.84), (0.86, 1.25, 0.92), (0.98, 1.0, 0.92),
         (1.0, 0.6, 0.94), (0.99, 0.35, 0.90)),
        (2, 5), 1.22, ((0.69, 0.80),), (0.18, 0.83), 0.34,
    ),
    "bus": Shape(
        10.5,
        ((0.0, 0.35, 1.22), (0.0, 0.9, 1.25), (0.0, 1.6, 1.25), (0.0, 2.6, 1.23),
         (0.01, 3.0, 1.16), (0.985, 3.0, 1.16), (0.99, 2.6, 1.22), (1.0, 1.0, 1.25),
         (1.0, 0.6, 1.25), (1.0, 0.32, 1.2)),
        (2, 6), 1.25, tuple((0.02 + i * 0.12, 0.13 + i * 0.12) for i in range(8)),
        (0.24, 0.82), 0.48,
    ),
    "truck": Shape(
        8.5,
        ((0.0, 0.55, 1.2), (0.0, 1.0, 1.22), (0.0, 1.1, 1.22), (0.0, 3.3, 1.22),
         (0.005, 3.4, 1.2), (0.74, 3.4, 1.2), (0.745, 2.6, 1.1), (0.95, 2.55, 1.05),
         (0.99, 1.5, 1.12), (1.0, 0.9, 1.15), (1.0, 0.4, 1.12)),
        (7,), 1.55, ((0.80, 0.93),), (0.16, 0.28, 0.88), 0.48,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Vehicle:
    """A vehicle with its middle at (x, z); `heading` +1 = away from the camera, -1 = nearing."""

    shape: Shape
    label: int
    x: float
    z: float
    heading: int
    paint: Reals

    def points(self, share: Reals, height: Reals, across: Reals) -> Reals:
        """Street points (..., 3): shares of the length, heights, metres right of the middle."""
        z = self.z + self.heading * (share - 0.5) * self.shape.length
        return np.stack(np.broadcast_arrays(self.x + across, height, z), axis=-1)

    def footprint(self) -> Reals:
        """(4, 3): the ground below."""
        half = self.shape.outline[1][2]
        return self.points(np.array([0, 0, 1, 1]), np.zeros(4), half * np.array([-1, 1, 1, -1]))


def draw_vehicle(rng: Rng, kind: str, x: float, z: float, heading: int) -> Vehicle:
    """A vehicle of a kind (a key of LABELS), of any paint."""
    shape = ("hatchback", "saloon", "estate")[rng.randint(3)] if kind == "car" else kind
    paint = (BUSES if kind == "bus" else PAINTS)[rng.randint(4 if kind == "bus" else 10)]
    if kind in ("van", "truck") and rng.uniform() < 0.7:
        paint = WHITE
    tone = rng.uniform(0.85, 1.1)
    return Vehicle(SHAPES[shape], LABELS[kind], x, z, heading, np.array(paint) * tone)
