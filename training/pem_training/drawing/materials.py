"""What the ground is made of: textures that depend on the place in the street, in metres."""

from dataclasses import dataclass

import numpy as np

from pem_training.drawing.noise import grain, look_up, rough, smooth
from pem_training.drawing.view import Floats, Reals


@dataclass(frozen=True)
class Ground:
    """The ground points of some pixels: `x`, `z` (h, w), and the size of a pixel there."""

    x: Floats
    z: Floats
    pixel: Floats  # metres across
    pixel_ahead: Floats  # metres along the street

    def cut(self, columns: slice) -> "Ground":
        """Some columns of it."""
        parts = (self.x, self.z, self.pixel, self.pixel_ahead)
        return Ground(*(part[:, columns] for part in parts))


def _asphalt(ground: Ground, odds: Reals) -> Floats:
    """(h, w, 1): chips, long tyre tracks, patches of another age, cracks."""
    x, z = ground.x, ground.z
    chips = look_up(grain(), x * 150, z * 75) / (1 + ground.pixel * 90)
    lumps = look_up(rough(), x * 180, z * 60) / (1 + ground.pixel * 90)
    tracks = look_up(smooth(), x * 55, z * np.float32(0.8))
    age = look_up(smooth(), x * 2 + 300, z * np.float32(0.7 + odds[0]))
    tone: Floats = 1 + np.float32(0.07) * chips + np.float32(0.03) * lumps
    tone += np.float32(0.04) * tracks
    tone -= (age > np.float32(1.0 + 1.5 * odds[1])) * np.float32(0.1)
    if odds[3] > 0.5:
        line = np.abs(look_up(smooth(), x * 25 + np.float32(500 * odds[2]), z * 16))
        tone -= (line < ground.pixel * 1.5) * np.float32(0.12) / (1 + ground.pixel * 150)
    return tone[..., None]


def _paving(ground: Ground, odds: Reals) -> Floats:
    """(h, w, 1): slabs with joints, each a little different."""
    x, z, size = ground.x, ground.z, np.float32(0.45 + 0.45 * odds[2])
    slab = look_up(rough(), np.floor(x / size) * 7, np.floor(z / size) * 13)
    joints = np.maximum(_joints(x, size, ground.pixel), _joints(z, size, ground.pixel_ahead))
    clear = 1 / (1 + ground.pixel_ahead * 6)
    lumps = look_up(rough(), x * 160, z * 80) / (1 + ground.pixel * 60)
    stains = look_up(smooth(), x * 14, z * 10)
    tone: Floats = 1 + np.float32(0.05) * slab * clear + np.float32(0.05) * stains
    tone += np.float32(0.06) * lumps - np.float32(0.35) * joints
    return tone[..., None]


def _joints(place: Floats, size: np.float32, pixel: Floats) -> Floats:
    """How much of each pixel lies in the joints (24 mm) between slabs of a size."""
    away = np.abs(place / size - np.round(place / size)) * size
    inside = np.clip((np.float32(0.012) + pixel / 2 - away) / pixel, 0, 1)
    share: Floats = inside * np.float32(0.024) / np.maximum(pixel, np.float32(0.024))
    return share


def _grass(ground: Ground, odds: Reals) -> Floats:
    """(h, w, 3): blades, tufts, and yellowed places."""
    x, z = ground.x, ground.z
    blades = look_up(rough(), x * 170, z * 60) / (1 + ground.pixel * 15)
    tufts = look_up(smooth(), x * 60, z * 30)
    wide = look_up(smooth(), x * 9 + np.float32(1024 * odds[0]), z * 5)
    tone = 1 + np.float32(0.16) * blades + np.float32(0.07) * tufts + np.float32(0.06) * wide
    yellow = np.clip(wide * np.float32(0.10), -0.05, 0.25)
    return np.stack([tone * (1 + yellow * 2), tone, tone * (1 - yellow)], axis=-1)


def _earth(ground: Ground, odds: Reals) -> Floats:
    """(h, w, 1): lumps, stones and tracks."""
    x, z = ground.x, ground.z
    lumps = look_up(rough(), x * 90, z * 50) / (1 + ground.pixel * 10)
    wide = look_up(smooth(), x * 14 + np.float32(1024 * odds[1]), z * 7)
    tracks = look_up(smooth(), x * 50, z)
    tone: Floats = 1 + np.float32(0.13) * lumps + np.float32(0.10) * wide
    tone += np.float32(0.05) * tracks
    return tone[..., None]


MATERIALS = {"asphalt": _asphalt, "paving": _paving, "grass": _grass, "earth": _earth}
