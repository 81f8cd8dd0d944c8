"""The street fronts of buildings as flat textures: storeys of windows, doors, shops."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from pem_training.drawing.masonry import Pen, draw_wall_colour, texture_size, wall, weathered
from pem_training.drawing.view import Colour, Reals, Rng

PAINTS = [
    (0.12, 0.20, 0.16), (0.10, 0.12, 0.22), (0.32, 0.09, 0.09), (0.75, 0.73, 0.68),
    (0.14, 0.14, 0.14), (0.22, 0.34, 0.42), (0.50, 0.40, 0.14),
]  # fmt: skip
CURTAIN = np.array((0.62, 0.60, 0.55))
BLACK = (0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Style:
    """What the front of one building is made of; lengths in metres."""

    material: str
    wall: Colour
    trim: Colour
    glass: Reals
    floor_height: float
    window: tuple[float, float]  # width, height
    spacing: float
    bars: int  # upright glazing bars in a window
    ribbon: bool  # windows join into bands
    shop: bool


def draw_style(rng: Rng, shop: bool, tall: bool) -> Style:
    """A style; `tall` buildings may be of concrete or glass, the others of stone."""
    names = ("concrete", "glass", "plaster", "brick") if tall else ("brick", "plaster", "stone")
    material = names[rng.randint(len(names))]
    return Style(
        material=material,
        wall=draw_wall_colour(rng, material),
        trim=(0.82, 0.81, 0.78) if rng.uniform() < 0.65 else (0.22, 0.22, 0.22),
        glass=rng.uniform(0.08, 0.2) * np.array((1.0, 1.08, 1.18)),
        floor_height=rng.uniform(2.9, 3.5),
        window=(rng.uniform(0.9, 1.5), rng.uniform(1.3, 1.9)),
        spacing=rng.uniform(1.9, 3.2),
        bars=int(rng.randint(0, 3)),
        ribbon=material == "glass" or (tall and rng.uniform() < 0.4),
        shop=shop,
    )


def facade(
    rng: Rng, style: Style, width: float, floors: int, resolution: float, sky: Reals
) -> Image.Image:
    """The street side of a building, `width` metres by `floors` storeys, RGB.

    `resolution` is in pixels per metre; `sky` (3,) is what the glass mirrors.
    """
    height = floors * style.floor_height
    size = texture_size(width, height, resolution)
    image = wall(rng, style.material, style.wall, size, resolution)
    front = _Front(rng, style, Pen(image, resolution), width, sky)
    first = 1 if style.shop or style.material == "glass" else 0
    if first:
        front.shop()
    for floor in range(first, floors):
        front.storey(floor)
    if not style.ribbon:
        front.pen.box(0, height - 0.35, width, height - 0.05, _mix(style.wall, style.trim, 0.5))
    return weathered(rng, image, resolution)


def shaded(rng: Rng, image: Image.Image, rows: float, dim: Reals, resolution: float) -> Image.Image:
    """The lowest `rows` of a front multiplied by `dim` (3,): the shade of the roofs opposite."""
    width, height = image.size
    steps = rng.uniform(-1.2, 1.2, 8) * resolution
    edge = height - rows + steps[np.arange(width) * 8 // width]
    below = np.clip(np.arange(height)[:, None] - edge[None, :] + 0.5, 0, 1).astype(np.float32)
    factors = 1 - below[..., None] * (1 - dim).astype(np.float32)
    return Image.fromarray((np.asarray(image, np.float32) * factors).astype(np.uint8))


def _mix(a: Colour, b: Colour, share: float) -> Reals:
    mixed: Reals = np.asarray(a, np.float64) * (1 - share) + np.asarray(b, np.float64) * share
    return mixed


class _Front:
    """A front being drawn; places are metres from its lower left corner."""

    def __init__(self, rng: Rng, style: Style, pen: Pen, width: float, sky: Reals) -> None:
        self.rng, self.style, self.pen, self.width, self.sky = rng, style, pen, width, sky
        self.coarse = pen.resolution < 14  # too far away for details

    def storey(self, floor: int) -> None:
        low = floor * self.style.floor_height
        if self.style.ribbon:
            self.ribbon(low + 0.25)
            return
        count = max(1, int((self.width - 0.6) / self.style.spacing))
        for i in range(count):
            middle = (i + 0.5) * self.width / count
            if floor == 0 and i == count // 2:
                self.door(middle)
            else:
                self.window(middle, low + 0.85)

    def ribbon(self, low: float) -> None:
        """A band of glass from end to end."""
        share = 0.8 if self.style.material == "glass" else 0.5
        high = low + self.style.floor_height * share
        count = max(1, round(self.width / 1.4))
        step = self.width / count
        for i in range(count):
            self.pane(i * step + 0.04, low, (i + 1) * step - 0.04, high)

    def window(self, middle: float, low: float) -> None:
        """Lintel, frame, panes, sill."""
        style, box = self.style, self.pen.box
        left, right = middle - style.window[0] / 2, middle + style.window[0] / 2
        high = low + style.window[1]
        if self.coarse:
            box(left, low - 0.15, right, high, style.trim)
            self.pane(left + 0.08, low + 0.08, right - 0.08, high)
            return
        if style.material != "plaster" or style.bars == 2:
            box(left - 0.08, high, right + 0.08, high + 0.22, _mix(style.wall, style.trim, 0.35))
        box(left, low, right, high, style.trim)
        box(left, high - 0.1, right, high, (0.1, 0.1, 0.1))  # the shadow of the lintel
        step, half, frame = (right - left) / (style.bars + 1), (low + high) / 2, 0.06
        for i in range(style.bars + 1):
            start, end = left + i * step + frame, left + (i + 1) * step - frame / 2
            self.pane(start, low + frame, end, half - frame / 2)
            self.pane(start, half + frame / 2, end, high - 0.1)
        box(left - 0.1, low - 0.12, right + 0.1, low, _mix(style.trim, style.wall, 0.3))
        box(left - 0.05, low - 0.2, right + 0.05, low - 0.12, _mix(style.wall, BLACK, 0.4))

    def pane(self, left: float, low: float, right: float, high: float) -> None:
        """Dark inside, more sky mirrored higher up, sometimes a curtain."""
        mirrored = 0.08 + 0.75 * self.rng.uniform() ** 2.5
        base = self.style.glass
        if self.rng.uniform() < 0.15:
            base = _mix(base, CURTAIN, 0.6)
        bands = 1 if self.coarse else 3
        for i in range(bands):
            a, b = (low + (high - low) * k / bands for k in (i, i + 1))
            self.pen.box(left, a, right, b, base + (self.sky - base) * mirrored * (0.4 + 0.3 * i))

    def door(self, middle: float) -> None:
        """Leaf, fanlight, frame, step."""
        self.pen.box(middle - 0.62, 0, middle + 0.62, 2.6, self.style.trim)
        self.pen.box(middle - 0.5, 0, middle + 0.5, 2.1, PAINTS[self.rng.randint(len(PAINTS))])
        self.pen.box(middle - 0.5, 2.2, middle + 0.5, 2.5, self.style.glass)
        self.pen.box(middle - 0.7, 0, middle + 0.7, 0.12, (0.5, 0.5, 0.48))

    def shop(self) -> None:
        """Large panes between pillars over a low wall; the sign above is a thing of its own."""
        top = self.style.floor_height
        self.pen.box(0, 0, self.width, top, PAINTS[self.rng.randint(len(PAINTS))])
        count = max(1, round(self.width / self.rng.uniform(1.6, 3.0)))
        entrance = self.rng.randint(count)
        for i in range(count):
            left, right = i * self.width / count + 0.12, (i + 1) * self.width / count - 0.12
            low = 0.05 if i == entrance else 0.5
            self.pane(left, low, right, top - 0.75)
            if i != entrance:
                self.goods(left, right, low)

    def goods(self, left: float, right: float, low: float) -> None:
        """Shapes behind the pane, as bright as things in a lit shop."""
        rng = self.rng
        for _ in range(4):
            x, wide, tall = rng.uniform(left, right - 0.2), *rng.uniform((0.1, 0.3), (0.5, 1.2))
            tone = np.array((0.3, 0.27, 0.22)) * rng.uniform(0.5, 1.6)
            tone += rng.uniform(-0.06, 0.06, 3)
            self.pen.box(x, low, min(right, x + wide), low + tall, tone)
