"""Flat textures (facades, roofs, fences, boards) painted in perspective."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from pem_training.drawing.canvas import Canvas
from pem_training.drawing.view import Colour, Floats, Point, Reals, View, inverse, transform

RIGHT, UP, AHEAD = np.eye(3)
NEAREST = 0.5  # metres: what is nearer to the camera is cut off


@dataclass(frozen=True)
class Plane:
    """A rectangle in the street: `corner` is its lower start, the axes are unit vectors."""

    corner: Reals
    along: Reals
    up: Reals
    width: float  # metres along `along`
    height: float  # metres along `up`

    def at(self, s: float, t: float) -> Reals:
        """The street point `s` metres along and `t` metres up."""
        return self.corner + s * self.along + t * self.up

    def corners(self) -> list[Reals]:
        """The four corners, in turn."""
        ends = [(0.0, 0.0), (self.width, 0.0), (self.width, self.height), (0.0, self.height)]
        return [self.at(s, t) for s, t in ends]

    def cut_start(self, metres: float) -> "Plane":
        """The plane without its first `metres` along."""
        return Plane(self.at(metres, 0), self.along, self.up, self.width - metres, self.height)


def upright(corner: Point, along: Reals, width: float, height: float) -> Plane:
    """A standing rectangle."""
    return Plane(np.asarray(corner, np.float64), along, UP, width, height)


def paint_plane(
    canvas: Canvas,
    plane: Plane,
    make: Callable[[float], Image.Image],
    label: int,
    shade: Colour,
    outline: bool = False,
    finest: float = 60.0,
) -> None:
    """Paint a texture on a plane, seen in perspective.

    `make` draws the texture (RGB, or RGBA with holes) of the whole plane for a resolution in
    pixels per metre, at most `finest`; it is not called for a plane out of sight. With `outline`
    the holes are labelled as well.
    """
    cut = _hidden_start(canvas.view, plane)
    if cut >= plane.width:
        return
    shown = plane.cut_start(cut)
    placed = canvas.view.project(shown.corners())
    if placed[:, 2].min() < NEAREST / 2 or not canvas.sees(placed):
        return
    depths = placed[:, 2]
    typical = float(depths.min() ** 0.75 * depths.max() ** 0.25)
    texture = make(float(np.clip(canvas.view.focal / typical, 3.0, finest)))
    if cut > 0:
        start = min(int(texture.width * cut / plane.width), texture.width - 1)
        texture = texture.crop((start, 0, texture.width, texture.height))
    _paint_texture(canvas, shown, placed, texture, label, shade, outline)


def _hidden_start(view: View, plane: Plane) -> float:
    """Metres of the plane, from its start, that lie too near or behind the camera."""
    start, end = (
        min(view.depth(plane.at(s, t)) for t in (0, plane.height)) for s in (0, plane.width)
    )
    if start >= NEAREST:
        return 0.0
    return plane.width * (NEAREST - start) / (end - start) if end > NEAREST else plane.width


def _paint_texture(
    canvas: Canvas,
    plane: Plane,
    placed: Reals,
    texture: Image.Image,
    label: int,
    shade: Colour,
    outline: bool,
) -> None:
    left, top, right, bottom = canvas.window(placed)
    detail = 2 if (right - left) * (bottom - top) > 3000 else 4
    size = ((right - left) * detail, (bottom - top) * detail)
    back = _texture_from_picture(canvas.view, plane, texture.size)
    back = back @ np.array([[1 / detail, 0, left], [0, 1 / detail, top], [0, 0, 1.0]])
    back /= back[2, 2]
    fine = texture.convert("RGBA").convert("RGBa")  # colours multiplied by alpha
    fine = fine.transform(
        size, Image.Transform.PERSPECTIVE, tuple(back.ravel()[:8]), Image.Resampling.BILINEAR
    )
    patch = np.asarray(fine.reduce(detail), np.float32) / np.float32(255)
    whole = _cover(placed - [left, top, 0], size, detail) if outline else None
    colour = patch[..., :3]
    colour *= np.asarray(shade, np.float32)
    depth = float(placed[:, 2].mean())
    canvas.blend((left, top), colour, patch[..., 3], label, depth, whole)


def _texture_from_picture(view: View, plane: Plane, size: tuple[int, int]) -> Reals:
    """(3, 3): picture coordinates to those of a texture of `size` (width, height) pixels."""
    to_metres = np.array(
        [[plane.width / size[0], 0, 0], [0, -plane.height / size[1], plane.height], [0, 0, 1.0]]
    )
    start, along, up = transform(view.matrix, np.stack([plane.corner, plane.along, plane.up]))
    shift = view.matrix[:, 3]  # of points, not of directions
    return inverse(np.stack([along - shift, up - shift, start], axis=1) @ to_metres)


def _cover(corners: Reals, size: tuple[int, int], detail: int) -> Floats:
    """The share of each pixel inside the four corners, (h, w)."""
    mask = Image.new("L", size)
    ImageDraw.Draw(mask).polygon([(u * detail, v * detail) for u, v, _ in corners], fill=255)
    return np.asarray(mask.reduce(detail), np.float32) / np.float32(255)
