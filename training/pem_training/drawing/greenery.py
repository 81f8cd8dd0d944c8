"""Trees, shrubs and hedges."""

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from pem_training.drawing.canvas import Canvas, Sketch
from pem_training.drawing.labels import PLANT, TREE
from pem_training.drawing.masonry import texture_size, to_image
from pem_training.drawing.noise import cut, rough, smooth
from pem_training.drawing.planes import Plane, paint_plane
from pem_training.drawing.view import Colour, Reals, Rng

GREENS = [
    (0.24, 0.34, 0.13), (0.30, 0.38, 0.14), (0.20, 0.30, 0.14),
    (0.34, 0.37, 0.16), (0.18, 0.27, 0.13), (0.40, 0.34, 0.14),
]  # fmt: skip
BARK = (0.24, 0.20, 0.17)


@dataclass(frozen=True)
class Tree:
    """A tree at (x, z): `kind` is leafy, conical or bare; lengths in metres."""

    x: float
    z: float
    height: float
    spread: float  # radius of the crown
    kind: str
    colour: Colour


def draw_tree(rng: Rng, x: float, z: float) -> Tree:
    """A tree of any kind at a place."""
    kind = ("leafy", "conical", "bare")[int(np.searchsorted([0.68, 0.84], rng.uniform()))]
    height = rng.uniform(5, 11)
    spread = height * (rng.uniform(0.2, 0.26) if kind == "conical" else rng.uniform(0.28, 0.4))
    colour = np.array(GREENS[rng.randint(len(GREENS))]) * rng.uniform(0.8, 1.2)
    return Tree(x, z, height, spread, kind, colour)


def paint_tree(canvas: Canvas, rng: Rng, tree: Tree) -> None:
    """Trunk, boughs and crown."""
    foot, top = canvas.view.project([[tree.x, 0, tree.z], [tree.x, tree.height, tree.z]])
    tall = float(foot[1] - top[1])
    wide = tall * tree.spread / tree.height
    _paint_wood(canvas, rng, tree, foot, tall, wide)
    if tree.kind != "bare":
        clumps = _clumps(rng, tree.kind, tall, wide, top)
        _paint_leaves(canvas, rng, clumps, tree.colour, float(foot[2]), TREE)


def _paint_wood(
    canvas: Canvas, rng: Rng, tree: Tree, foot: Reals, tall: float, wide: float
) -> None:
    """A trunk that forks into five boughs; `tall` and `wide` in pixels."""
    around = foot[:2] + np.array([[-wide * 1.25, -tall * 1.06], [wide * 1.25, 0]])
    sketch = Sketch(canvas, around, float(foot[2]))
    bark = np.array(BARK) * canvas.light.shade([0, 0.3, -0.95]) * rng.uniform(0.8, 1.3)
    fork = foot[:2] - [rng.uniform(-0.03, 0.03) * tall, tall * rng.uniform(0.2, 0.34)]
    thick = max(1.0, tall * rng.uniform(0.028, 0.045))
    sketch.limb(foot, fork, thick, bark, thick * 0.75)
    bare = tree.kind == "bare"
    forks = (5 if tall > 150 else 3) if bare else 1
    reach = tall * (0.27 if bare else 0.22)
    wider = {"bare": 2.4, "leafy": 1.2, "conical": 0.4}[tree.kind] * tree.spread / tree.height
    for angle in (-0.8, -0.35, 0.05, 0.4, 0.8):
        lean = angle * wider + rng.uniform(-0.1, 0.1)
        _bough(sketch, rng, fork, reach, lean, thick * 0.6, bark, forks)
    sketch.finish(TREE, outline=bare)


def _bough(
    sketch: Sketch,
    rng: Rng,
    start: Reals,
    length: float,
    lean: float,
    thick: float,
    colour: Reals,
    forks: int,
) -> None:
    """A bough that forks `forks` times; `lean` is its angle from upright."""
    bent = lean + rng.uniform(-0.15, 0.15)
    end = start + length * np.array([math.sin(bent), -math.cos(bent)])
    sketch.limb(start, end, max(thick, 0.4), colour, max(thick * 0.7, 0.35))
    if forks == 0 or length < 2:
        return
    for side in (-1, 1):
        shorter, turned = length * rng.uniform(0.6, 0.8), lean + side * rng.uniform(0.2, 0.55)
        _bough(sketch, rng, end, shorter, turned, thick * 0.55, colour, forks - 1)


def _clumps(rng: Rng, kind: str, tall: float, wide: float, top: Reals) -> Reals:
    """(N, 4): centre u, v and half axes, in pixels, of the clumps of leaves of a crown."""
    if kind == "conical":
        down = np.linspace(0.12, 0.88, 9)
        u = top[0] + rng.uniform(-0.1, 0.1, 9) * wide * down
        high = np.full(9, tall * 0.1)
        return np.stack([u, top[1] + down * tall * 0.92, wide * (down * 0.9 + 0.1), high], axis=1)
    angle, out = rng.uniform(0, 2 * math.pi, 13), np.sqrt(rng.uniform(0, 1, 13))
    half, size = tall * 0.37, rng.uniform(0.32, 0.55, 13)
    u = top[0] + np.cos(angle) * out * wide * 0.72
    v = top[1] + half + np.sin(angle) * out * half * 0.72
    return np.stack([u, v, wide * size, half * size * 0.9], axis=1)


def _paint_leaves(
    canvas: Canvas, rng: Rng, clumps: Reals, colour: Colour, depth: float, label: int
) -> None:
    """Fill a union of ellipses (N, 4) with leaves: ragged, lit from the sun's side."""
    low, high = clumps[:, :2] - clumps[:, 2:] * 1.3, clumps[:, :2] + clumps[:, 2:] * 1.3
    left, top, right, bottom = canvas.window(np.concatenate([low, high]))
    u = np.arange(left, right, dtype=np.float32)[None, :] + np.float32(0.5)
    v = np.arange(top, bottom, dtype=np.float32)[:, None] + np.float32(0.5)
    inside = np.full((bottom - top, right - left), -9, np.float32)
    facing = np.zeros_like(inside)
    sun_x, sun_y, _ = canvas.light.toward_sun
    light_u, light_v = np.float32(sun_x * 0.6), np.float32(-0.45 - 0.4 * sun_y)
    for cu, cv, ru, rv in clumps.astype(np.float32):
        x, y = (u - cu) / max(ru, 1), (v - cv) / max(rv, 1)
        here = 1 - x * x - y * y
        np.copyto(facing, x * light_u + y * light_v, where=here > inside)
        np.maximum(inside, here, out=inside)
    coarse, fine = cut(rng, smooth(), *inside.shape), cut(rng, rough(), *inside.shape)
    edge = np.float32(2 + min(inside.shape) / 25)
    alpha = np.clip((inside + 0.30 * fine + 0.12 * coarse - 0.05) * edge, 0, 1).astype(np.float32)
    tone = np.clip(0.72 + 0.36 * facing + 0.20 * fine + 0.07 * coarse, 0.18, 1.6)
    tint = np.asarray(colour) * canvas.light.shade([0, 0.5, -0.5]) * 1.15
    warm = np.stack([tone * (tone * 0.25 + 0.75), tone, tone * 0.9], axis=-1)
    patch = (warm * tint.astype(np.float32) * alpha[..., None]).astype(np.float32)
    canvas.blend((left, top), patch, alpha, label, depth)


def paint_shrub(canvas: Canvas, rng: Rng, x: float, z: float) -> None:
    """A low round bush."""
    height, wide = rng.uniform(0.5, 1.3), rng.uniform(0.5, 1.2)
    foot, top, side = canvas.view.project([[x, 0, z], [x, height, z], [x + wide, 0, z]])
    tall, half = foot[1] - top[1], abs(side[0] - foot[0])
    u = foot[0] + rng.uniform(-0.6, 0.6, 5) * half
    v = top[1] + tall * rng.uniform(0.45, 0.75, 5)
    clumps = np.stack([u, v, np.full(5, half * 0.5), np.full(5, tall * 0.4)], axis=1)
    _paint_leaves(canvas, rng, clumps, GREENS[rng.randint(len(GREENS))], float(foot[2]), PLANT)


def paint_hedge(canvas: Canvas, rng: Rng, plane: Plane, toward_street: int) -> None:
    """A clipped hedge on an upright plane along the street."""
    shade = canvas.light.shade([toward_street, 0.4, 0])
    paint_plane(canvas, plane, lambda ppm: _hedge(rng, plane, ppm), PLANT, shade, finest=90)


def _hedge(rng: Rng, plane: Plane, resolution: float) -> Image.Image:
    width, height = texture_size(plane.width, plane.height, resolution)
    fine, coarse = cut(rng, rough(), height, width), cut(rng, smooth(), height, width)
    down = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    alpha = np.clip((down - 0.09 + 0.05 * fine + 0.02 * coarse) * 25, 0, 1)
    tone = np.clip(1.1 - 0.55 * down + 0.24 * fine + 0.08 * coarse, 0.2, 1.5)
    base = np.array(GREENS[rng.randint(len(GREENS))], np.float32)
    return to_image(np.concatenate([tone[..., None] * base, alpha[..., None]], axis=-1))
