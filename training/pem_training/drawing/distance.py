"""The wooded or hilly distance, a skyline across the whole picture."""

import numpy as np

from pem_training.drawing.canvas import Canvas
from pem_training.drawing.greenery import GREENS
from pem_training.drawing.labels import MOUNTAIN, TREE
from pem_training.drawing.noise import cut, rough, smooth
from pem_training.drawing.view import Colour, Floats, Rng


def paint_hills(canvas: Canvas, rng: Rng) -> None:
    """Smooth bluish hills, far away; they keep some colour through the haze."""
    away, high = 1500.0, rng.uniform(60, 190)
    profile = cut(rng, smooth(), 1, canvas.view.width)[0]
    wide = max(1, canvas.view.width // 26)
    total = np.cumsum(np.pad(profile, (wide, wide), mode="edge"), dtype=np.float64)
    profile = ((total[2 * wide :] - total[: -2 * wide]) / (2 * wide)).astype(np.float32)
    _paint_skyline(canvas, rng, away, high, profile, (0.27, 0.31, 0.26), MOUNTAIN, 500.0, 0.0)


def paint_wood(canvas: Canvas, rng: Rng) -> None:
    """The trees that close the view at the end of the street."""
    away, high = rng.uniform(120, 180), rng.uniform(7, 12)
    profile = cut(rng, smooth(), 1, canvas.view.width)[0]
    colour = GREENS[rng.randint(len(GREENS))]
    _paint_skyline(canvas, rng, away, high, profile, colour, TREE, away, 1.0)


def _paint_skyline(
    canvas: Canvas,
    rng: Rng,
    away: float,
    high: float,
    profile: Floats,
    colour: Colour,
    label: int,
    depth: float,
    leafy: float,
) -> None:
    """A band that stands `away` metres off, about `high` metres high by `profile` (W,).

    `leafy` (0 or 1) makes its edge ragged and its surface uneven; `depth` sets the haze.
    """
    view = canvas.view
    ends = view.project([[-away * 1.5, 0, away], [away * 1.5, 0, away]])
    base = np.interp(np.arange(view.width) + 0.5, ends[:, 0], ends[:, 1])
    edge = base - high * view.focal / away * np.clip(0.65 + 0.3 * profile, 0.1, 1.3)
    top, bottom = max(0, int(edge.min()) - 3), min(view.height, int(base.max()) + 2)
    if bottom <= top:
        return
    shape = (bottom - top, view.width)
    fine, coarse = cut(rng, rough(), *shape), cut(rng, smooth(), *shape)
    below = np.arange(top, bottom)[:, None] + 1.0 - edge[None, :] + 2.0 * leafy * fine
    alpha = np.clip(below, 0, 1).astype(np.float32)
    tone = 0.8 + (0.05 + 0.15 * leafy) * fine + 0.12 * coarse
    tint = np.asarray(colour) * canvas.light.shade([0, 0.7, -0.5])
    patch = (tone * alpha)[..., None] * tint.astype(np.float32)
    canvas.blend((0, top), patch.astype(np.float32), alpha, label, depth)
