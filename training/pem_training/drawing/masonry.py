"""Walls, roofs and lettered boards as flat textures, before they are seen in perspective.

`resolution` is in pixels per metre, everywhere.
"""

import numpy as np
from PIL import Image, ImageDraw

from pem_training.drawing.canvas import to_bytes
from pem_training.drawing.noise import cut, rough, smooth
from pem_training.drawing.view import Colour, Floats, Rng

WALLS = {
    "brick": [(0.46, 0.27, 0.21), (0.52, 0.35, 0.27), (0.40, 0.26, 0.22), (0.60, 0.48, 0.36)],
    "plaster": [
        (0.74, 0.70, 0.62), (0.66, 0.64, 0.60), (0.78, 0.72, 0.56),
        (0.62, 0.54, 0.46), (0.80, 0.79, 0.76), (0.60, 0.62, 0.62),
    ],
    "stone": [(0.58, 0.53, 0.44), (0.50, 0.47, 0.42), (0.64, 0.60, 0.52)],
    "concrete": [(0.52, 0.52, 0.50), (0.44, 0.45, 0.46), (0.60, 0.58, 0.54)],
    "glass": [(0.30, 0.35, 0.40), (0.24, 0.29, 0.33)],
}  # fmt: skip
COURSES = {"brick": 0.075, "stone": 0.3, "concrete": 1.5}  # metres
ROOFS = [(0.26, 0.27, 0.30), (0.34, 0.30, 0.28), (0.46, 0.27, 0.20), (0.38, 0.25, 0.20)]
BOARDS = [
    (0.65, 0.10, 0.10), (0.10, 0.18, 0.48), (0.10, 0.32, 0.20), (0.86, 0.84, 0.78),
    (0.13, 0.13, 0.14), (0.85, 0.62, 0.10), (0.12, 0.42, 0.62), (0.45, 0.12, 0.30),
]  # fmt: skip


class Pen:
    """Draws boxes, in metres from the lower left corner of a texture."""

    def __init__(self, image: Image.Image, resolution: float) -> None:
        self.draw, self.resolution = ImageDraw.Draw(image), resolution
        self.bottom = image.height

    def box(self, left: float, low: float, right: float, high: float, colour: Colour) -> None:
        """Fill from (left, low) to (right, high); nothing if that is less than a pixel."""
        x0, x1 = round(left * self.resolution), round(right * self.resolution)
        y0, y1 = (self.bottom - round(value * self.resolution) for value in (high, low))
        if x1 > x0 and y1 > y0:
            self.draw.rectangle((x0, y0, x1 - 1, y1 - 1), fill=to_bytes(colour))


def texture_size(width: float, height: float, resolution: float) -> tuple[int, int]:
    """(width, height) in pixels of a texture of a size in metres."""
    return max(2, round(width * resolution)), max(2, round(height * resolution))


def to_image(colour: Floats) -> Image.Image:
    """(h, w, 3 or 4), 0..1, to an RGB or RGBA image."""
    return Image.fromarray((np.clip(colour, 0, 1) * 255).astype(np.uint8))


def draw_wall_colour(rng: Rng, material: str) -> tuple[float, float, float]:
    """One of the colours of a material, a little off."""
    colours = WALLS[material]
    base = np.array(colours[rng.randint(len(colours))]) * rng.uniform(0.85, 1.15)
    red, green, blue = np.clip(base * (1 + rng.uniform(-0.04, 0.04, 3)), 0, 0.92)
    return float(red), float(green), float(blue)


def wall(
    rng: Rng, material: str, colour: Colour, size: tuple[int, int], resolution: float
) -> Image.Image:
    """Bare wall, RGB: courses of bricks or stones, panels, or plaster."""
    width, height = size
    tone = 1 + np.float32(0.04) * cut(rng, rough(), height, width)
    tone += np.float32(0.05) * cut(rng, smooth(), height, width)
    course = COURSES.get(material, 0.0)
    if course * resolution > 2.5:
        rows = np.arange(height) / resolution
        tone[(rows % course) < max(0.012, 1 / resolution)] *= np.float32(0.86)  # joints
    if material in ("brick", "stone"):
        tall, long = (max(1, round(course * k * resolution)) for k in (1, 2.5))
        units = cut(rng, rough(), height // tall + 1, width // long + 1)
        each = np.repeat(np.repeat(units, tall, axis=0), long, axis=1)[:height, :width]
        tone += np.float32(0.07) * each
    return to_image(tone[..., None] * np.asarray(colour, np.float32))


def weathered(rng: Rng, image: Image.Image, resolution: float) -> Image.Image:
    """Darker under the eaves and at the foot, with streaks running down."""
    width, height = image.size
    up = (height - np.arange(height, dtype=np.float32)) / np.float32(resolution)
    foot = np.clip(up / 0.8, 0, 1) * np.float32(0.18) + np.float32(0.82)
    eaves = np.clip((up[0] - up) / np.float32(0.6), 0, 1) * np.float32(0.25) + np.float32(0.75)
    streaks = 1 + np.float32(0.035) * cut(rng, smooth(), 1, width)
    colour = np.asarray(image, np.float32) * (foot * eaves)[:, None, None] * streaks[..., None]
    return Image.fromarray(np.clip(colour, 0, 255).astype(np.uint8))


def gabled(image: Image.Image, gable: float) -> Image.Image:
    """The image, RGBA, with its upper `gable` pixels cut to a triangle."""
    width, height = image.size
    outline = [(0, height), (0, gable), (width / 2, 0), (width, gable), (width, height)]
    mask = Image.new("L", image.size)
    ImageDraw.Draw(mask).polygon(outline, fill=255)
    cut_out = image.convert("RGBA")
    cut_out.putalpha(mask)
    return cut_out


def roof(rng: Rng, width: float, height: float, resolution: float) -> Image.Image:
    """Rows of tiles, RGB."""
    columns, rows = texture_size(width, height, resolution)
    base = np.array(ROOFS[rng.randint(len(ROOFS))], np.float32) * np.float32(rng.uniform(0.8, 1.2))
    tone = 1 + np.float32(0.10) * cut(rng, rough(), rows, columns)
    tone += np.float32(0.05) * cut(rng, smooth(), rows, columns)
    row = np.arange(rows) / (resolution * 0.3)
    tone[(row % 1) < 0.25] *= np.float32(0.78)  # the edge of each row of tiles
    return to_image(tone[..., None] * base)


def lettering(rng: Rng, width: float, height: float, resolution: float) -> Image.Image:
    """A sign: a coloured board with strokes that look like letters from afar, RGB."""
    board = np.array(BOARDS[rng.randint(len(BOARDS))]) * rng.uniform(0.8, 1.1)
    ink = (0.92, 0.90, 0.84) if board.mean() < 0.45 else (0.12, 0.12, 0.2)
    image = Image.new("RGB", texture_size(width, height, resolution), to_bytes(board))
    pen = Pen(image, resolution)
    letter, tall = height * rng.uniform(0.3, 0.45), height * rng.uniform(0.45, 0.6)
    x, low = width * 0.08, (height - tall) / 2
    while x < width * 0.92 - letter:
        if rng.uniform() < 0.85:
            _letter(rng, pen, x, low, letter * 0.8, tall, ink)
        x += letter
    return image


def _letter(
    rng: Rng, pen: Pen, x: float, low: float, width: float, height: float, ink: Colour
) -> None:
    """An upright stroke, perhaps a second, and bars at some of three levels."""
    stroke = width * 0.28
    pen.box(x, low, x + stroke, low + height, ink)
    if rng.uniform() < 0.6:
        pen.box(x + width - stroke, low, x + width, low + height, ink)
    for level in (0.0, 0.45, 0.85):
        if rng.uniform() < 0.55:
            at = low + level * height
            pen.box(x, at, x + width, at + stroke * 0.8, ink)
