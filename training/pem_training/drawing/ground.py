"""The ground: road with markings, kerbs, sidewalks, lawns and earth, under cast shadows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from pem_training.drawing.canvas import Canvas
from pem_training.drawing.materials import MATERIALS, Ground
from pem_training.drawing.noise import look_up, rough
from pem_training.drawing.view import Colour, Floats, Point, Reals, View, transform


@dataclass(frozen=True)
class Strip:
    """A strip of ground along the street, from `start` to `end` metres right of its middle."""

    start: float
    end: float
    label: int
    colour: Colour
    material: str  # a key of MATERIALS


@dataclass(frozen=True)
class Marking:
    """A painted rectangle of the road, in street metres; `period` repeats it along the street."""

    left: float
    right: float
    near: float
    far: float
    period: float = 0.0
    colour: Colour = (0.86, 0.86, 0.83)


@dataclass(frozen=True)
class Surface:
    """All that lies on the ground.

    The strips cover each other in turn, the road last, then the markings; `crossing` (near, far)
    is a side street; `shadows` are (N, 3) polygons; `odds` (4,), 0..1, vary the materials.
    """

    strips: Sequence[Strip]
    markings: Sequence[Marking]
    crossing: tuple[float, float] | None
    shadows: Sequence[Reals]
    odds: Reals


def paint_ground(canvas: Canvas, surface: Surface) -> None:
    """Paint everything below the horizon."""
    view, light = canvas.view, canvas.light
    shadow = _shadow_map(view, surface.shadows)
    sun = (light.sun * max(0.0, light.toward_sun[1])).astype(np.float32)
    for top, bottom in view.bands(view.horizon()[0], view.height):
        ground, seen = _look_down(view, top, bottom)
        colour, labels = _bare_ground(ground, surface)
        lit = 1 - shadow[top:bottom, :, None]
        colour *= light.ambient.astype(np.float32) + lit * sun
        clear = 1 / (1 + ground.z * np.float32(light.haze_per_metre))[..., None]
        colour *= clear
        colour += light.haze.astype(np.float32) * (1 - clear)
        canvas.colour[top:bottom][seen] = colour[seen]
        canvas.labels[top:bottom][seen] = labels[seen]


def _look_down(view: View, top: int, bottom: int) -> tuple[Ground, NDArray[np.bool_]]:
    """The ground of a band of rows, and where there is ground at all."""
    x, y, z = view.rays(top, bottom)
    eye = view.eye.astype(np.float32)
    reach = eye[1] / np.maximum(-y, np.float32(1e-3))
    pixel = reach / np.float32(view.focal)
    return Ground(eye[0] + x * reach, z * reach, pixel, pixel * reach / eye[1]), -y > 1e-3


def _bare_ground(ground: Ground, surface: Surface) -> tuple[Floats, NDArray[np.uint8]]:
    """Colours (h, W, 3) before light, and labels (h, W)."""
    road = surface.strips[-1]  # fills the vanishing point, where every strip is below a pixel
    colour = np.empty((*ground.x.shape, 3), np.float32)
    colour[:] = np.asarray(road.colour, np.float32)
    labels = np.full(ground.x.shape, road.label, np.uint8)

    def lay(strip: Strip, columns: slice, part: Ground, share: Floats) -> None:
        texture = MATERIALS[strip.material](part, surface.odds)
        target = colour[:, columns]
        target += (texture * np.asarray(strip.colour, np.float32) - target) * share[..., None]
        labels[:, columns][share > 0.5] = strip.label

    for strip in surface.strips:
        columns = _columns(ground, strip.start, strip.end)
        part = ground.cut(columns)
        lay(strip, columns, part, _between(part.x, strip.start, strip.end, part.pixel))
    if surface.crossing and ground.z.min() < surface.crossing[1] + 5:
        share = _between(ground.z, *surface.crossing, ground.pixel_ahead)
        lay(road, slice(None), ground, share)
    _paint_markings(colour, ground, surface)
    return colour, labels


def _columns(ground: Ground, start: float, end: float) -> slice:
    """The columns that can hold a strip from `start` to `end` metres; perhaps none."""
    rims = (0, -1)  # X runs evenly down a column, so its extremes are in the first and last row
    low = np.min([ground.x[k] - ground.pixel[k] for k in rims], axis=0) < end
    high = np.max([ground.x[k] + ground.pixel[k] for k in rims], axis=0) > start
    found = np.flatnonzero(low & high)
    return slice(int(found[0]), int(found[-1]) + 1) if len(found) else slice(0)


def _between(x: Floats, start: float, end: float, pixel: Floats) -> Floats:
    """The share of each pixel between two edges, 0..1."""
    after = np.clip((x - np.float32(start)) / pixel + np.float32(0.5), 0, 1)
    before = np.clip((np.float32(end) - x) / pixel + np.float32(0.5), 0, 1)
    return np.asarray(after * before, np.float32)


def _paint_markings(colour: Floats, ground: Ground, surface: Surface) -> None:
    """Thermoplastic paint, worn by the wheels."""
    wear = look_up(rough(), ground.x * 60, ground.z * 40) * np.float32(0.12)
    worn = np.clip(np.float32(0.7 + 0.28 * surface.odds[3]) + wear, 0, 1)
    for mark in surface.markings:
        columns = _columns(ground, mark.left, mark.right)
        part = ground.cut(columns)
        z = part.z
        if mark.period:
            z = np.mod(z - np.float32(mark.near), np.float32(mark.period)) + np.float32(mark.near)
        share = _between(part.x, mark.left, mark.right, part.pixel) * worn[:, columns]
        share *= _between(z, mark.near, mark.far, part.pixel_ahead)
        target = colour[:, columns]
        target += (np.asarray(mark.colour, np.float32) - target) * share[..., None]


def _shadow_map(view: View, shadows: Sequence[Reals]) -> Floats:
    """(H, W): the share of the sun that is kept away, 0..1."""
    image = Image.new("L", (view.width, view.height))
    pen = ImageDraw.Draw(image)
    for polygon in shadows:
        front = _in_front(view, polygon)
        if len(front) > 2:
            pen.polygon([(u, v) for u, v, _ in view.project(front)], fill=255)
    soft = image.filter(ImageFilter.GaussianBlur(1.2))
    return np.asarray(soft, np.float32) / np.float32(255)


def _in_front(view: View, polygon: Reals) -> list[Point]:
    """The part of a polygon that lies at least half a metre before the camera."""
    depths = transform(view.matrix, polygon)[:, 2] - 0.5
    if depths.min() > 0:
        return list(polygon)
    kept: list[Point] = []
    for i, (point, depth) in enumerate(zip(polygon, depths, strict=True)):
        before, d = polygon[i - 1], depths[i - 1]
        if (depth > 0) != (d > 0):
            kept.append(before + (point - before) * d / (d - depth))
        if depth > 0:
            kept.append(point)
    return kept
