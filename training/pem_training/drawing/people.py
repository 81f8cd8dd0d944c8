"""People on foot, as jointed figures of limbs, coats and hair."""

import math

import numpy as np

from pem_training.drawing.canvas import Canvas, Sketch
from pem_training.drawing.labels import PERSON
from pem_training.drawing.noise import cut, rough
from pem_training.drawing.view import Floats, Reals, Rng

COATS = [
    (0.05, 0.05, 0.06), (0.08, 0.08, 0.10), (0.06, 0.06, 0.07), (0.11, 0.12, 0.17),
    (0.15, 0.12, 0.11), (0.20, 0.17, 0.14), (0.28, 0.08, 0.10), (0.22, 0.23, 0.25),
    (0.12, 0.16, 0.13), (0.58, 0.56, 0.53), (0.17, 0.26, 0.40), (0.55, 0.42, 0.12),
    (0.18, 0.10, 0.18),
]  # fmt: skip
TROUSERS = [
    (0.10, 0.12, 0.18), (0.20, 0.25, 0.36), (0.05, 0.05, 0.06), (0.06, 0.06, 0.07),
    (0.28, 0.25, 0.20), (0.13, 0.14, 0.16), (0.30, 0.36, 0.47),
]  # fmt: skip
SKINS = [
    (0.70, 0.53, 0.45), (0.62, 0.45, 0.37), (0.66, 0.50, 0.42), (0.40, 0.26, 0.19),
    (0.26, 0.17, 0.13),
]  # fmt: skip
HAIRS = [
    (0.08, 0.06, 0.05), (0.13, 0.09, 0.06), (0.20, 0.13, 0.08), (0.36, 0.28, 0.18),
    (0.38, 0.37, 0.36),
]  # fmt: skip

Place = tuple[float, float]  # shares of the height: right of the feet, above the ground


def paint_person(canvas: Canvas, rng: Rng, x: float, z: float) -> None:
    """A walking or standing person at (x, z), seen from any side."""
    tall = rng.uniform(1.55, 1.88)
    foot, top = canvas.view.project([[x, 0, z], [x, tall, z]])
    size = float(foot[1] - top[1])
    around = foot[:2] + size * np.array([[-0.42, -1.05], [0.42, 0.02]])
    sketch = Sketch(canvas, around, float(foot[2]))
    _Figure(sketch, foot, size, canvas.light.shade([0, 0.2, -0.95]), rng).paint()
    sketch.finish(PERSON, _modelling(canvas, sketch, rng))


def _modelling(canvas: Canvas, sketch: Sketch, rng: Rng) -> Floats:
    """Lighter towards the sun, with folds: (h, w)."""
    width, height = sketch.size
    strength = min(float(canvas.light.sun.max()), 0.6)
    toward = math.copysign(strength, canvas.light.toward_sun[0])
    across = np.linspace(-0.45, 0.45, width, dtype=np.float32) * np.float32(toward)
    tone: Floats = 1 + across[None, :] + np.float32(0.09) * cut(rng, rough(), height, width)
    return tone


class _Figure:
    """A figure being drawn; `size` is its height in pixels, all other lengths are shares of it."""

    def __init__(self, sketch: Sketch, foot: Reals, size: float, light: Reals, rng: Rng) -> None:
        self.sketch, self.foot, self.size = sketch, foot, size
        self.stride = rng.uniform(0.15, 0.5) if rng.uniform() < 0.85 else 0.05  # radians
        self.sideways = rng.uniform() < 0.5  # seen from the side
        self.facing = 1 if rng.uniform() < 0.5 else -1  # right or left, else away or here

        def pick(colours: list[tuple[float, float, float]]) -> Reals:
            chosen: Reals = np.array(colours[rng.randint(len(colours))]) * light
            return chosen * rng.uniform(0.85, 1.25)

        self.coat, self.trousers = pick(COATS), pick(TROUSERS)
        self.skin, self.hair, self.shirt = pick(SKINS), pick(HAIRS), pick(COATS)
        self.long_coat, self.pockets, self.bag = rng.uniform(0, 1, 3) < (0.25, 0.4, 0.3)

    def spot(self, place: Place) -> Place:
        """A place of the figure in the picture."""
        return self.foot[0] + place[0] * self.size, self.foot[1] - place[1] * self.size

    def limb(self, a: Place, b: Place, thick: float, thin: float, colour: Reals) -> Place:
        """A limb from `a` to `b`, rounded at the end; answers `b`."""
        end = self.spot(b)
        self.sketch.limb(self.spot(a), end, thick * self.size, colour, thin * self.size)
        self.sketch.disc(end, thin * self.size / 2, colour)
        return b

    def swing(self, start: Place, length: float, angle: float) -> Place:
        """The end of a limb that hangs from `start`, turned by `angle` from straight down."""
        return start[0] + length * math.sin(angle), start[1] - length * math.cos(angle)

    def paint(self) -> None:
        self.leg(-1)
        self.leg(1)
        self.arm(-1)
        if not self.sideways:
            self.arm(1)
        self.trunk()
        if self.sideways:
            self.arm(1)
        self.head()

    def leg(self, side: int) -> None:
        """Thigh, shin and shoe. From the front a stride shows as one shorter shin."""
        colour = self.trousers * (0.75 if side < 0 else 1.0)
        if self.sideways:
            hip, turn, short = (0.0, 0.5), side * self.stride * self.facing, 1.0
            behind = turn * self.facing < 0
            bend = turn - self.facing * self.stride * 0.6 * behind
            toe = self.facing * 0.07
        else:
            hip, turn = (side * 0.045, 0.5), -side * 0.25 * self.stride
            short, bend, toe = 1 - 0.45 * self.stride * (side * self.facing > 0), turn, side * 0.012
        knee = self.limb(hip, self.swing(hip, 0.25, turn), 0.105, 0.075, colour)
        ankle = self.limb(knee, self.swing(knee, 0.22 * short, bend), 0.075, 0.05, colour)
        self.limb(ankle, (ankle[0] + toe, ankle[1] - 0.025), 0.05, 0.035, self.trousers * 0.4)

    def trunk(self) -> None:
        """Coat, collar and bag."""
        wide, hem = 0.075 if self.sideways else 0.105, 0.34 if self.long_coat else 0.46
        half = [(0.3, 0.85), (0.8, 0.83), (1.0, 0.79), (0.82, 0.6), (0.95, hem)]
        outline = [(-x * wide, y) for x, y in half] + [(x * wide, y) for x, y in half[::-1]]
        self.sketch.polygon([self.spot(place) for place in outline], self.coat)
        if not self.sideways and self.facing < 0:
            collar = ((-0.03, 0.85), (0.03, 0.85), (0.0, 0.7))
            self.sketch.polygon([self.spot(place) for place in collar], self.shirt)
        if self.bag:
            x = -self.facing * wide * (1.2 if self.sideways else 0.7)
            self.limb((x, 0.76), (x, 0.56), 0.1, 0.11, self.shirt)

    def arm(self, side: int) -> None:
        """Shoulder, upper arm, forearm and hand."""
        colour = self.coat * (0.8 if side < 0 else 0.95)
        shoulder = (0.0 if self.sideways else side * 0.1, 0.795)
        turn = -side * self.stride * self.facing if self.sideways else side * 0.12
        lower = turn + (self.facing * 0.35 if self.sideways else -side * 0.1)
        self.sketch.disc(self.spot(shoulder), 0.034 * self.size, colour)
        elbow = self.limb(shoulder, self.swing(shoulder, 0.17, turn), 0.07, 0.055, colour)
        hand = self.limb(elbow, self.swing(elbow, 0.15, lower), 0.055, 0.042, colour)
        if not self.pockets:
            self.sketch.disc(self.spot(hand), 0.02 * self.size, self.skin * 0.9)

    def head(self) -> None:
        """Neck, hair, and the face unless it is turned away."""
        lean = self.facing * 0.012 if self.sideways else 0.0
        self.limb((0, 0.83), (lean, 0.88), 0.06, 0.055, self.skin * 0.85)
        self.sketch.disc(self.spot((lean, 0.925)), 0.06 * self.size, self.hair, 0.8)
        if self.sideways or self.facing < 0:
            look = lean + (self.facing * 0.016 if self.sideways else 0.0)
            self.sketch.disc(self.spot((look, 0.912)), 0.047 * self.size, self.skin, 0.75)
