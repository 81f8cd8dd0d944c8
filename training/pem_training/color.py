"""Color jitter: SSD's (Liu et al., 2016), and a stronger one.

Images are PIL images, RGB.
"""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image

HUE_CIRCLE = 256  # Pillow's steps around it

Floats = NDArray[np.float32]


def ssd_jitter(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Brightness ±32, contrast 0.5 to 1.5, saturation 0.5 to 1.5, hue ±36 degrees, each in half of
    the cases; contrast before or after the other two."""
    pixels = np.asarray(image, np.float32)
    if _happens(rng):
        pixels = _clip(pixels + rng.uniform(-32, 32))
    contrast_first = _happens(rng)
    if contrast_first:
        pixels = _change_contrast(pixels, rng)
    saturation = rng.uniform(0.5, 1.5) if _happens(rng) else 1.0
    hue = rng.uniform(-0.1, 0.1) if _happens(rng) else 0.0
    pixels = _shift_hue(pixels, saturation, hue)
    if not contrast_first:
        pixels = _change_contrast(pixels, rng)
    return _to_image(pixels)


def strong_jitter(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """SSD's jitter, then light of another color, gamma and more saturation, now and then grey.

    For data with one weather: skies become blue, evenings warm, walls any color.
    """
    pixels = np.asarray(ssd_jitter(image, rng), np.float32)
    if _happens(rng, 0.1):
        pixels = np.repeat(pixels.mean(axis=2, keepdims=True), 3, axis=2)
    if _happens(rng):
        pixels = _clip(pixels * rng.uniform(0.75, 1.25, 3).astype(np.float32))  # each channel
    if _happens(rng):
        pixels = 255 * (pixels / 255) ** rng.uniform(0.6, 1.4)
    if _happens(rng, 0.3):
        pixels = _shift_hue(pixels, rng.uniform(1.0, 2.0), rng.uniform(-0.5, 0.5))
    return _to_image(pixels)


STRENGTHS: Mapping[str, Callable[[Image.Image, np.random.Generator], Image.Image]] = {
    "none": lambda image, _: image,
    "ssd": ssd_jitter,
    "strong": strong_jitter,
}


def _happens(rng: np.random.Generator, chance: float = 0.5) -> bool:
    return bool(rng.random() < chance)


def _change_contrast(pixels: Floats, rng: np.random.Generator) -> Floats:
    return _clip(pixels * rng.uniform(0.5, 1.5)) if _happens(rng) else pixels


def _shift_hue(pixels: Floats, saturation: float, hue: float) -> Floats:
    """`saturation` times as saturated, all hues turned by the share `hue` of the circle."""
    if saturation == 1 and hue == 0:
        return pixels
    hsv = np.array(_to_image(pixels).convert("HSV"))  # (H, W, 3)
    hsv[..., 0] += np.uint8(round(hue * HUE_CIRCLE) % HUE_CIRCLE)  # wraps around, as hues do
    hsv[..., 1] = np.minimum(hsv[..., 1] * saturation, 255)
    return np.asarray(Image.fromarray(hsv, "HSV").convert("RGB"), np.float32)


def _clip(pixels: Floats) -> Floats:
    return np.clip(pixels, 0, 255).astype(np.float32)


def _to_image(pixels: Floats) -> Image.Image:
    return Image.fromarray(_clip(pixels).round().astype(np.uint8))
