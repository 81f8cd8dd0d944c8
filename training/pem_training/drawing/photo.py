"""What a camera does to a scene: exposure, colour cast, tone curve, blur, vignetting, noise."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from pem_training.drawing.canvas import Canvas
from pem_training.drawing.noise import cut, grain
from pem_training.drawing.view import Floats, Rng


def develop(canvas: Canvas, rng: Rng) -> NDArray[np.uint8]:
    """The painted scene as a photograph, (H, W, 3) uint8 RGB."""
    gain = _exposure(canvas.colour, rng.uniform(0.36, 0.5))
    gains = gain * (1 + rng.uniform(-0.03, 0.03, 3))  # white balance is never quite right
    vignette, vivid, contrast = rng.uniform(0.0, 0.25), rng.uniform(0.8, 1.2), rng.uniform(0.1, 0.6)
    fall = _vignette(canvas.view.height, canvas.view.width, vignette)
    positive = np.empty(canvas.colour.shape, np.uint8)
    for top, bottom in canvas.view.bands(0, canvas.view.height):
        light = canvas.colour[top:bottom] * gains.astype(np.float32) * fall[top:bottom, :, None]
        positive[top:bottom] = _tone(light, np.float32(vivid), np.float32(contrast)) * 255 + 0.5
    soft = Image.fromarray(positive).filter(ImageFilter.GaussianBlur(rng.uniform(0.25, 0.8)))
    return _noisy(np.asarray(soft), rng.uniform(0.5, 3.0), rng)


def _exposure(colour: Floats, target: float) -> float:
    """The factor that brings the mean brightness, highlights cut off, to `target`."""
    mean = float(np.minimum(colour[::4, ::4], np.float32(0.8)).mean())
    return float(np.clip(target / max(mean, 0.05), 0.8, 2.2))


def _vignette(height: int, width: int, strength: float) -> Floats:
    """Light lost towards the corners: (H, W) factors."""
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    fall: Floats = 1 - np.float32(strength / 2) * (x * x + y * y)
    return fall


def _tone(light: Floats, vivid: np.float32, contrast: np.float32) -> Floats:
    """Light (h, W, 3) to 0..1: saturation, a shoulder for the highlights, an S-shaped curve."""
    grey = light.mean(axis=2, keepdims=True)
    light = np.maximum(grey + (light - grey) * vivid, 0)
    light = light * (1 + light * np.float32(0.45)) / (1 + light * light * np.float32(0.5))
    light = np.minimum(light, 1)
    step = light * light * (3 - 2 * light)
    curved: Floats = light + (step - light) * contrast
    return curved


def _noisy(image: NDArray[np.uint8], strength: float, rng: Rng) -> NDArray[np.uint8]:
    """Sensor noise of a deviation of `strength` levels: more in brightness than in colour."""
    height, width = image.shape[:2]
    shared = cut(rng, grain(), height, width) * np.float32(strength)
    noisy = np.empty(image.shape, np.float32)
    for k in range(3):
        own = cut(rng, grain(), height, width) * np.float32(strength * 0.4)
        noisy[..., k] = image[..., k] + shared + own
    return np.clip(noisy + np.float32(0.5), 0, 255).astype(np.uint8)
