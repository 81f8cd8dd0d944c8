"""The weather of a scene: its light, and the sky with its clouds."""

import math
from dataclasses import dataclass

import numpy as np

from pem_training.drawing.canvas import Canvas
from pem_training.drawing.labels import SKY
from pem_training.drawing.noise import look_up, smooth
from pem_training.drawing.view import Floats, Light, Rng


@dataclass(frozen=True)
class Weather:
    """How the day looks. Colours are RGB, 0..1; ranges are (least, most)."""

    share: float  # how often, relative to the others
    zenith: tuple[float, float, float]
    horizon: tuple[float, float, float]
    cloud: tuple[float, float, float]
    cover: tuple[float, float]  # 0 = no clouds, 1 = all clouds
    sun: tuple[float, float, float]  # colour times strength
    ambient: tuple[float, float, float]
    elevation: tuple[float, float]  # of the sun, degrees
    haze: tuple[float, float]  # per metre


WEATHERS = {
    "clear": Weather(
        0.30, (0.22, 0.43, 0.76), (0.68, 0.81, 0.93), (0.97, 0.98, 1.0), (0.0, 0.3),
        (0.72, 0.68, 0.60), (0.40, 0.44, 0.50), (25, 60), (0.0004, 0.002),
    ),
    "fair": Weather(
        0.26, (0.30, 0.50, 0.79), (0.78, 0.87, 0.94), (0.96, 0.97, 0.98), (0.35, 0.65),
        (0.62, 0.59, 0.52), (0.43, 0.46, 0.50), (25, 60), (0.0005, 0.003),
    ),
    "glaring": Weather(
        0.15, (0.80, 0.90, 0.99), (0.99, 1.0, 1.0), (1.0, 1.0, 1.0), (0.1, 0.6),
        (0.52, 0.50, 0.45), (0.34, 0.35, 0.38), (15, 45), (0.0005, 0.003),
    ),
    "overcast": Weather(
        0.18, (0.62, 0.66, 0.72), (0.84, 0.86, 0.88), (0.90, 0.91, 0.93), (0.8, 1.0),
        (0.08, 0.08, 0.08), (0.60, 0.61, 0.63), (40, 70), (0.001, 0.005),
    ),
    "sunset": Weather(
        0.10, (0.30, 0.38, 0.62), (0.98, 0.74, 0.48), (0.95, 0.68, 0.56), (0.2, 0.6),
        (0.70, 0.47, 0.26), (0.36, 0.34, 0.38), (6, 18), (0.001, 0.004),
    ),
}  # fmt: skip


def draw_weather(rng: Rng) -> tuple[Weather, Light]:
    """A weather by its share, and a light that suits it."""
    kinds = list(WEATHERS.values())
    shares = np.array([kind.share for kind in kinds])
    weather = kinds[int(np.searchsorted(np.cumsum(shares / shares.sum()), rng.uniform()))]
    around = rng.uniform(-math.pi, math.pi)
    up = math.radians(rng.uniform(*weather.elevation))
    level = math.cos(up)
    toward = np.array([level * math.sin(around), math.sin(up), level * math.cos(around)])
    strength = rng.uniform(0.8, 1.1)
    light = Light(
        toward_sun=toward,
        sun=np.array(weather.sun) * strength,
        ambient=np.array(weather.ambient) * rng.uniform(0.85, 1.1),
        haze=0.75 * np.array(weather.horizon) + 0.15,
        haze_per_metre=rng.uniform(*weather.haze),
    )
    return weather, light


@dataclass(frozen=True)
class Clouds:
    """A flat layer of clouds, one unit above the camera."""

    threshold: float  # deviations of the noise above which there is cloud
    soft: float  # deviations from nothing to full cloud
    scale: float  # pixels of the noise per unit
    shift: tuple[float, float]


def draw_clouds(rng: Rng, weather: Weather) -> Clouds:
    """Clouds that suit the weather."""
    cover = rng.uniform(*weather.cover)
    shift = rng.uniform(0, 1024), rng.uniform(0, 1024)
    return Clouds(1.7 - 3.4 * cover, rng.uniform(0.5, 1.6), rng.uniform(90, 260), shift)


def paint_sky(canvas: Canvas, weather: Weather, clouds: Clouds, rise: float) -> None:
    """Fill the whole picture with sky; what lies below the horizon is painted over later.

    `rise` says how fast the colour of the horizon gives way to that of the zenith.
    """
    zenith, horizon, white = (
        np.array(c, np.float32) for c in (weather.zenith, weather.horizon, weather.cloud)
    )
    for top, bottom in canvas.view.bands(0, canvas.view.horizon()[1]):
        x, y, z = canvas.view.rays(top, bottom)
        norm = np.sqrt(x * x + y * y + z * z)
        up = np.clip(y / norm, 0.0, 1.0)  # sine of the elevation
        share = np.clip(up * np.float32(rise), 0, 1)[..., None]
        sky = horizon + (zenith - horizon) * share * (2 - share)
        glow = _glow(canvas.light, x / norm, y / norm, z / norm)[..., None]
        sky += (1 - sky) * glow * np.float32(0.55)
        density, tone = _cloud_layer(clouds, x, up * norm, z)
        sky += (white * tone[..., None] - sky) * density[..., None]
        canvas.colour[top:bottom] = np.clip(sky, 0, 1)
    canvas.labels[:] = SKY


def _glow(light: Light, x: Floats, y: Floats, z: Floats) -> Floats:
    """How near each direction is to the sun, 0..1."""
    sun = light.toward_sun.astype(np.float32)
    near: Floats = np.clip(x * sun[0] + y * sun[1] + z * sun[2], 0, 1)
    for _ in range(4):
        near = near * near
    return near


def _cloud_layer(clouds: Clouds, x: Floats, y: Floats, z: Floats) -> tuple[Floats, Floats]:
    """Density (0..1) and brightness of the clouds in the directions (x, y, z)."""
    far = np.float32(clouds.scale) / np.maximum(y, np.float32(0.03))
    across = x * far + np.float32(clouds.shift[0])
    ahead = z * far * np.float32(0.8) + np.float32(clouds.shift[1])
    shape = look_up(smooth(), across, ahead)
    beside = look_up(smooth(), across * np.float32(0.97) + 9, ahead + 7)
    density: Floats = np.clip(
        (shape - np.float32(clouds.threshold)) / np.float32(clouds.soft), 0, 1
    )
    melting = np.clip(y * 14, 0, 1)  # clouds melt together at the horizon
    tone = np.float32(0.87) + np.float32(0.12) * np.clip(shape - beside, -1, 1)
    return density * melting, tone
