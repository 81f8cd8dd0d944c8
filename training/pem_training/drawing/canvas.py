"""The picture under way with its labels, and fine drawings laid over it.

Everything is painted from far to near. A thing covers a share of each pixel (its alpha); the pixel
takes the label of the last thing that covered more than half of it. See-through things (railings,
spokes, bare crowns) are labelled inside their outline, as people label photographs.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from pem_training.drawing.view import Colour, Floats, Light, Point, Reals, View


@dataclass
class Canvas:
    """The picture under way: `colour` (H, W, 3) float32, `labels` (H, W) uint8."""

    view: View
    light: Light
    colour: Floats = field(init=False)
    labels: NDArray[np.uint8] = field(init=False)

    def __post_init__(self) -> None:
        size = (self.view.height, self.view.width)
        self.colour = np.zeros((*size, 3), np.float32)
        self.labels = np.zeros(size, np.uint8)

    def window(self, points: Reals) -> tuple[int, int, int, int]:
        """(left, top, right, bottom) of the points, cut to the picture; one pixel at least."""
        size = np.array([self.view.width, self.view.height])
        low = np.clip(np.floor(points[:, :2].min(axis=0)) - 1, 0, size - 1).astype(int)
        high = np.clip(np.ceil(points[:, :2].max(axis=0)) + 1, low + 1, size).astype(int)
        return int(low[0]), int(low[1]), int(high[0]), int(high[1])

    def sees(self, points: Reals) -> bool:
        """Whether the box around some points touches the picture."""
        (left, top), (right, bottom) = points[:, :2].min(axis=0), points[:, :2].max(axis=0)
        return bool(left < self.view.width and top < self.view.height and right > 0 and bottom > 0)

    def blend(
        self,
        corner: tuple[int, int],
        colour: Floats,
        alpha: Floats,
        label: int | None,
        depth: float,
        outline: Floats | None = None,
    ) -> None:
        """Lay a patch over the picture, with its upper left pixel at `corner` (left, top).

        `colour` (h, w, 3) is already multiplied by `alpha` (h, w), and is used up. `label` None
        paints without labelling; `outline` (h, w) replaces `alpha` for the labels. `depth` in
        metres decides how much the patch fades into the haze.
        """
        (left, top), (height, width) = corner, alpha.shape
        place = slice(top, top + height), slice(left, left + width)
        clear = math.exp(-depth * self.light.haze_per_metre)
        target = self.colour[place]
        target *= 1 - alpha[..., None]
        colour *= np.float32(clear)
        target += colour
        if clear < 0.97:
            target += alpha[..., None] * (self.light.haze * (1 - clear)).astype(np.float32)
        if label is not None:
            self.labels[place][(alpha if outline is None else outline) > 0.5] = label


class Sketch:
    """A fine drawing of one thing over its window of the picture, in picture coordinates."""

    def __init__(self, canvas: Canvas, around: Reals, depth: float) -> None:
        """`around` (N, 2 or 3) are points whose box holds the thing, `depth` its distance."""
        self.canvas, self.depth = canvas, depth
        self.left, self.top, right, bottom = canvas.window(around)
        self.size = (right - self.left, bottom - self.top)
        pixels = self.size[0] * self.size[1]
        self.detail = 5 if pixels < 20_000 else 3 if pixels < 60_000 else 2
        fine = (self.size[0] * self.detail, self.size[1] * self.detail)
        self.colour, self.cover = Image.new("RGB", fine), Image.new("L", fine)
        self._pens = ImageDraw.Draw(self.colour), ImageDraw.Draw(self.cover)

    def polygon(self, points: Iterable[Point], colour: Colour) -> None:
        """Fill a polygon."""
        left, top, detail = self.left, self.top, self.detail
        placed = [((p[0] - left) * detail, (p[1] - top) * detail) for p in points]
        self._pens[0].polygon(placed, fill=to_bytes(colour))
        self._pens[1].polygon(placed, fill=255)

    def limb(self, start: Point, end: Point, thick: float, colour: Colour, thin: float = 0) -> None:
        """A stroke from `start` (`thick` pixels wide) to `end` (`thin` wide, or as thick)."""
        u0, v0, u1, v1 = float(start[0]), float(start[1]), float(end[0]), float(end[1])
        half = 0.5 / max(math.hypot(u1 - u0, v1 - v0), 1e-6)
        across, down = (v0 - v1) * half, (u1 - u0) * half
        thin = thin or thick
        corners = (
            (u0 + across * thick, v0 + down * thick),
            (u1 + across * thin, v1 + down * thin),
            (u1 - across * thin, v1 - down * thin),
            (u0 - across * thick, v0 - down * thick),
        )
        self.polygon(corners, colour)

    def disc(self, centre: Point, radius: float, colour: Colour, squeeze: float = 1.0) -> None:
        """An upright ellipse: `radius` times `squeeze` across, `radius` high."""
        u, v = float(centre[0]) - self.left, float(centre[1]) - self.top
        box = [u - radius * squeeze, v - radius, u + radius * squeeze, v + radius]
        box = [value * self.detail for value in box]
        self._pens[0].ellipse(box, fill=to_bytes(colour))
        self._pens[1].ellipse(box, fill=255)

    def finish(self, label: int, tone: Floats | float = 1.0, outline: bool = False) -> None:
        """Paint the drawing; `tone` (h, w) or a number multiplies its colours.

        With `outline` small gaps in it are labelled as well.
        """
        colour = np.asarray(self.colour.reduce(self.detail), np.float32) / np.float32(255)
        cover = self.cover.reduce(self.detail)
        alpha = np.asarray(cover, np.float32) / np.float32(255)
        shape = None
        if outline:
            soft = cover.filter(ImageFilter.BoxBlur(max(1.0, min(cover.size) * 0.03)))
            shape = np.asarray(soft, np.float32) / np.float32(255 * 0.4)
        colour *= tone[..., None] if isinstance(tone, np.ndarray) else np.float32(tone)
        self.canvas.blend((self.left, self.top), colour, alpha, label, self.depth, shape)


def to_bytes(colour: Colour) -> tuple[int, int, int]:
    """A colour for Pillow: three integers, 0 to 255."""
    red, green, blue = colour
    return (
        255 if red > 1 else 0 if red < 0 else int(255 * red),
        255 if green > 1 else 0 if green < 0 else int(255 * green),
        255 if blue > 1 else 0 if blue < 0 else int(255 * blue),
    )
