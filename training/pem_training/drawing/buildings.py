"""Buildings beside the street: terraces, houses and blocks, from their flat textures."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from pem_training.drawing import facades, masonry
from pem_training.drawing.canvas import Canvas, Sketch
from pem_training.drawing.labels import BUILDING, SIGNBOARD
from pem_training.drawing.planes import AHEAD, RIGHT, Plane, paint_plane, upright
from pem_training.drawing.view import Rng


@dataclass(frozen=True)
class Building:
    """A box beside the street: its front stands at `front` (X), from `near` to `far` (Z)."""

    side: int  # +1 = right of the street, -1 = left
    front: float
    near: float
    far: float
    floors: int
    depth: float  # metres away from the street
    pitch: float  # rise of the roof in metres; 0 = flat
    gable_to_street: bool
    style: facades.Style

    @property
    def height(self) -> float:
        """Metres from the ground to the eaves."""
        return self.floors * self.style.floor_height

    @property
    def width(self) -> float:
        """Metres along the street."""
        return self.far - self.near

    def hides(self, next_one: "Building") -> bool:
        """Whether the near end of the building behind it cannot be seen."""
        return (
            next_one.near - self.far < 0.01
            and self.height >= next_one.height
            and self.pitch >= next_one.pitch
            and abs(self.front) <= abs(next_one.front)
        )


def draw_building(rng: Rng, side: int, front: float, near: float, kind: str) -> Building:
    """A building of a kind: `terrace`, `house` or `block`, that starts at `near`."""
    tall = kind == "block"
    widths = {"terrace": (5, 13), "house": (7, 11), "block": (14, 28)}[kind]
    floors = {"terrace": (2, 5), "house": (1, 3), "block": (4, 10)}[kind]
    shop = rng.uniform() < {"terrace": 0.5, "house": 0.0, "block": 0.3}[kind]
    flat = rng.uniform() < {"terrace": 0.35, "house": 0.05, "block": 1.0}[kind]
    return Building(
        side=side,
        front=front + side * rng.uniform(0, 0.5 if kind == "terrace" else 2.0),
        near=near,
        far=near + rng.uniform(*widths),
        floors=int(rng.randint(*floors)),
        depth=rng.uniform(12, 20) if tall else rng.uniform(8, 12),
        pitch=0.0 if flat else rng.uniform(2.0, 3.5),
        gable_to_street=kind == "house" and rng.uniform() < 0.4,
        style=facades.draw_style(rng, shop, tall),
    )


def paint_building(
    canvas: Canvas, rng: Rng, building: Building, end_seen: bool, shaded_to: float
) -> None:
    """Roof, near end (unless another building hides it), street front, and the sign of a shop.

    The front lies in the shade of the houses opposite up to `shaded_to` metres.
    """
    if building.pitch:
        _paint_roof(canvas, rng, building)
    if end_seen:
        _paint_end(canvas, rng, building)
    _paint_front(canvas, rng, building, shaded_to)
    if building.pitch and building.gable_to_street:
        _paint_gable(canvas, rng, building)
    if building.style.shop:
        _paint_shop_sign(canvas, rng, building, shaded_to)


def _paint_front(canvas: Canvas, rng: Rng, b: Building, shaded_to: float) -> None:
    lit, dim = (canvas.light.shade([-b.side, 0, 0], share) for share in (1.0, 0.0))

    def make(resolution: float) -> Image.Image:
        texture = facades.facade(rng, b.style, b.width, b.floors, resolution, canvas.light.haze)
        if shaded_to <= 0:
            return texture
        return facades.shaded(rng, texture, shaded_to * resolution, dim / lit, resolution)

    paint_plane(
        canvas, upright([b.front, 0, b.near], AHEAD, b.width, b.height), make, BUILDING, lit
    )


def _blank_wall(rng: Rng, b: Building, plane: Plane, gable: float, ppm: float) -> Image.Image:
    """A wall without windows, its upper `gable` metres a triangle."""
    size = masonry.texture_size(plane.width, plane.height, ppm)
    image = masonry.wall(rng, b.style.material, b.style.wall, size, ppm)
    return masonry.gabled(masonry.weathered(rng, image, ppm), size[1] * gable / plane.height)


def _paint_end(canvas: Canvas, rng: Rng, b: Building) -> None:
    gable = 0.0 if b.gable_to_street else b.pitch
    end = upright([b.front, 0, b.near], RIGHT * b.side, b.depth, b.height + gable)
    shade = canvas.light.shade([0, 0, -1])
    paint_plane(
        canvas, end, lambda ppm: _blank_wall(rng, b, end, gable, ppm), BUILDING, shade, finest=40
    )


def _paint_gable(canvas: Canvas, rng: Rng, b: Building) -> None:
    """The triangle above a front that looks at the street."""
    gable = upright([b.front, b.height, b.near], AHEAD, b.width, b.pitch)
    shade = canvas.light.shade([-b.side, 0, 0])
    paint_plane(
        canvas, gable, lambda ppm: _blank_wall(rng, b, gable, b.pitch, ppm), BUILDING, shade
    )


def _paint_roof(canvas: Canvas, rng: Rng, b: Building) -> None:
    """The slope that looks at the street, or the one that looks at the camera; the chimney."""
    if b.gable_to_street:
        along, up, length = RIGHT * b.side, np.array([0, b.pitch, b.width / 2]), b.depth
    else:
        along, up, length = AHEAD, np.array([b.side * b.depth / 2, b.pitch, 0]), b.width
    rise = float(np.sqrt((up * up).sum()))
    slope = Plane(np.array([b.front, b.height, b.near]), along, up / rise, length, rise)
    normal = np.cross(slope.along, slope.up)
    shade = canvas.light.shade(normal if normal[1] > 0 else -normal)
    paint_plane(
        canvas, slope, lambda ppm: masonry.roof(rng, length, rise, ppm), BUILDING, shade, finest=30
    )
    if rng.uniform() < 0.7:
        _paint_chimney(canvas, rng, b)


def _paint_chimney(canvas: Canvas, rng: Rng, b: Building) -> None:
    """A stack on the ridge: two plain faces, the rim darker."""
    x = b.front + b.side * b.depth * (0.5 if b.gable_to_street else rng.uniform(0.35, 0.5))
    z, out = b.near + b.width * rng.uniform(0.1, 0.8), x + b.side * 0.7
    if canvas.view.depth([x, 0, z]) < 3:
        return
    low, top = b.height, b.height + b.pitch + 1.1
    faces = (((x, z), (x, z + 1.3), [-b.side, 0, 0]), ((x, z), (out, z), [0, 0, -1]))
    corners = [[p, y, q] for start, end, _ in faces for p, q in (start, end) for y in (low, top)]
    placed = canvas.view.project(corners)
    sketch = Sketch(canvas, placed, float(placed[0, 2]))
    for start, end, normal in faces:
        tone = canvas.light.shade(normal) * b.style.wall * 0.85
        for bottom, high, dark in ((low, top, 1.0), (top - 0.25, top, 0.75)):
            outline = [(*start, bottom), (*end, bottom), (*end, high), (*start, high)]
            sketch.polygon(canvas.view.project([[p, y, q] for p, q, y in outline]), tone * dark)
    sketch.finish(BUILDING)


def _paint_shop_sign(canvas: Canvas, rng: Rng, b: Building, shaded_to: float) -> None:
    width, height = b.width * rng.uniform(0.6, 0.95), rng.uniform(0.5, 0.7)
    level, start = b.style.floor_height - height - 0.03, b.near + (b.width - width) / 2
    paint_plane(
        canvas,
        upright([b.front - b.side * 0.1, level, start], AHEAD, width, height),
        lambda ppm: masonry.lettering(rng, width, height, ppm),
        SIGNBOARD,
        canvas.light.shade([-b.side, 0, 0], float(shaded_to < level)),
    )
