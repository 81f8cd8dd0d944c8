"""A street before it is painted: its measures, and the things and shadows on it in order."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from pem_training.drawing.canvas import Canvas
from pem_training.drawing.view import Reals, Rng

Painter = Callable[[Canvas, Rng], None]


@dataclass(frozen=True)
class Side:
    """One side of the street; distances are in metres from the middle of the road."""

    side: int  # +1 right, -1 left
    kind: str  # town, suburb, blocks, park or field
    kerb: float
    back: float  # of the sidewalk
    front: float  # of the houses


class Thing(NamedTuple):
    """Something to paint: the larger its rank, the earlier."""

    rank: float
    place: tuple[float, float] | None  # (x, z) of a thing on one spot; None for a long one
    paint: Painter
    seed: int  # of its own odds: what one thing draws cannot change its neighbours


@dataclass
class Street:
    """The plan of a scene."""

    sides: tuple[Side, Side]  # left, right
    lanes: int  # in each direction
    lane: float  # metres
    drive: int  # the side of the road people drive on: +1 right, -1 left
    crossing: tuple[float, float] | None  # near and far edge of a side street
    eye_x: float
    shadow: Reals  # where the shadow of a point one metre up falls, (3,)
    seed: int
    things: list[Thing] = field(default_factory=list)
    shadows: list[Reals] = field(default_factory=list)  # (N, 3) polygons on the ground

    def add(self, x: float, z: float, paint: Painter) -> None:
        """Queue a thing that stands on one spot."""
        seed = self.seed + len(self.things)
        self.things.append(Thing(self._rank(x, z), (x, z), paint, seed))

    def add_long(self, x: float, far: float, paint: Painter, seed: int | None = None) -> None:
        """Queue a thing that stretches along the street, back to `far`.

        Things of one `seed` look alike.
        """
        own = self.seed + len(self.things) if seed is None else seed
        self.things.append(Thing(self._rank(x, far), None, paint, own))

    def _rank(self, x: float, z: float) -> float:
        """Farther along or farther aside comes first.

        A ray that leaves the camera meets the middle of the street before its sides.
        """
        return z + 1.5 * abs(x - self.eye_x)

    def paint(self, canvas: Canvas, rng: Rng) -> None:
        """Paint the things from far to near; leaves `rng` in no particular state."""
        for thing in sorted(self.things, key=lambda thing: -thing.rank):
            if thing.place is None or canvas.view.depth([thing.place[0], 0, thing.place[1]]) > 1:
                rng.seed(thing.seed)
                thing.paint(canvas, rng)

    def open(self, near: float, far: float) -> bool:
        """Whether a stretch is clear of the side street."""
        return self.crossing is None or far < self.crossing[0] or near > self.crossing[1]

    def cast(self, edge: Reals, height: float) -> None:
        """Add the shadow of an upright wall over the ground edge `edge` (2, 3)."""
        self.shadows.append(np.concatenate([edge, (edge + height * self.shadow)[::-1]]))

    def cast_post(self, x: float, z: float, height: float, wide: float = 0.15) -> None:
        """Add the shadow of a post."""
        across = np.array([self.shadow[2], 0, -self.shadow[0]])
        across *= wide / 2 / max(float(np.hypot(across[0], across[2])), 1e-6)
        foot = np.array([x, 0, z])
        self.cast(np.stack([foot - across, foot + across]), height)
