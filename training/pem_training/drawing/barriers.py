"""Fences and garden walls, on upright planes along the street."""

import numpy as np
from PIL import Image, ImageDraw

from pem_training.drawing.canvas import Canvas, to_bytes
from pem_training.drawing.furniture import WOOD, draw_metal
from pem_training.drawing.labels import FENCE, WALL
from pem_training.drawing.masonry import Pen, draw_wall_colour, texture_size, wall, weathered
from pem_training.drawing.planes import Plane, paint_plane
from pem_training.drawing.view import Reals, Rng


def paint_railings(canvas: Canvas, rng: Rng, plane: Plane, toward_street: int) -> None:
    """Iron bars with a rail above and below; the gaps are labelled as fence."""

    def make(resolution: float) -> Image.Image:
        texture, metal = _bars(rng, plane, resolution, 0.14, 0.035, draw_metal(rng))
        pen = ImageDraw.Draw(texture)
        for level in (0.08, 0.85):
            top = level * texture.height
            pen.rectangle((0, top, texture.width, top + 0.05 * resolution), fill=metal)
        return texture

    shade = canvas.light.shade([toward_street, 0.1, 0])
    paint_plane(canvas, plane, make, FENCE, shade, outline=True)


def paint_boards(canvas: Canvas, rng: Rng, plane: Plane, toward_street: int) -> None:
    """Upright wooden boards with narrow gaps."""
    shade = canvas.light.shade([toward_street, 0.1, 0])
    wood = np.array(WOOD) * rng.uniform(0.7, 1.4)

    def make(resolution: float) -> Image.Image:
        return _bars(rng, plane, resolution, 0.2, 0.185, wood)[0]

    paint_plane(canvas, plane, make, FENCE, shade, outline=True)


def _bars(
    rng: Rng, plane: Plane, resolution: float, pitch: float, wide: float, base: Reals
) -> tuple[Image.Image, tuple[int, int, int, int]]:
    """Upright bars `wide` metres wide, one every `pitch` metres, RGBA; and their colour."""
    texture = Image.new("RGBA", texture_size(plane.width, plane.height, resolution))
    pen = ImageDraw.Draw(texture)
    for i in range(int(plane.width / pitch) + 1):
        left = i * pitch * resolution
        right = left + max(0.6, wide * resolution - 1)
        tone = (*to_bytes(base * rng.uniform(0.85, 1.15)), 255)
        pen.rectangle((left, 0, right, texture.height), fill=tone)
    return texture, (*to_bytes(base), 255)


def paint_garden_wall(canvas: Canvas, rng: Rng, plane: Plane, toward_street: int) -> None:
    """Bricks, stones or plaster under a coping."""
    material = ("brick", "stone", "plaster")[rng.randint(3)]
    colour = draw_wall_colour(rng, material)

    def make(resolution: float) -> Image.Image:
        size = texture_size(plane.width, plane.height, resolution)
        texture = weathered(rng, wall(rng, material, colour, size, resolution), resolution)
        coping = np.array(colour) * 1.15
        Pen(texture, resolution).box(0, plane.height - 0.12, plane.width, plane.height, coping)
        return texture

    paint_plane(canvas, plane, make, WALL, canvas.light.shade([toward_street, 0, 0]))
