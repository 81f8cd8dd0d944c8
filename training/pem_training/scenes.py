"""Drawn street scenes with exact labels, for learning and testing without any photographs.

`draw_scene(seed)` answers one image with its labels; `write_scenes`, and the command

    python -m pem_training.scenes FOLDER --count N --split training --seed S

write a folder in the layout of the ADE20K scene-parsing data.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pem_training.drawing.canvas import Canvas
from pem_training.drawing.distance import paint_hills, paint_wood
from pem_training.drawing.ground import Surface, paint_ground
from pem_training.drawing.labels import CLASSES
from pem_training.drawing.pavement import draw_markings, draw_strips
from pem_training.drawing.photo import develop
from pem_training.drawing.planning import fill_street
from pem_training.drawing.sky import draw_clouds, draw_weather, paint_sky
from pem_training.drawing.street import Side, Street
from pem_training.drawing.view import Reals, Rng, View, make_view

__all__ = ["CLASSES", "draw_scene", "main", "write_scenes"]

KINDS = {"town": 0.31, "suburb": 0.26, "blocks": 0.10, "park": 0.23, "field": 0.10}  # shares
SMALLEST = 16  # pixels
JPEG_QUALITY = 92


def draw_scene(
    seed: int, height: int = 480, width: int = 640
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A street-like scene: image (H, W, 3) uint8 RGB and labels (H, W) uint8, keys of CLASSES.

    One seed and size always give the same bytes with the same NumPy and Pillow, and the same
    scene, up to rounding, with others. Another size shows the same street. Raises ValueError for a
    seed outside 0..2**32 - 1 or a side below 16 pixels.
    """
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed must be from 0 to 2**32 - 1, got {seed}: choose a smaller one")
    if min(height, width) < SMALLEST:
        raise ValueError(
            f"a scene must be at least {SMALLEST} by {SMALLEST} pixels, got {height} by {width}"
        )
    rng = Rng(seed)
    weather, light = draw_weather(rng)
    street = _draw_street(rng, light.toward_sun)
    canvas = Canvas(_draw_view(rng, street, height, width), light)
    paint_sky(canvas, weather, draw_clouds(rng, weather), rise=rng.uniform(1.6, 2.6))
    surface = Surface(
        draw_strips(rng, street),
        draw_markings(rng, street),
        street.crossing,
        street.shadows,
        odds=rng.uniform(0, 1, 4),
    )
    if rng.uniform() < 0.35:
        paint_hills(canvas, rng)
    paint_ground(canvas, surface)
    paint_wood(canvas, rng)
    street.paint(canvas, rng)
    rng.seed(seed)
    return develop(canvas, rng), canvas.labels


def _draw_street(rng: Rng, toward_sun: Reals) -> Street:
    """The widths of road and sidewalks, the kinds of both sides, and all that stands there."""
    lanes, lane = 1 + int(rng.uniform() < 0.3), rng.uniform(2.9, 3.5)
    drive = 1 if rng.uniform() < 0.5 else -1
    sides = (_draw_side(rng, -1, lanes * lane), _draw_side(rng, 1, lanes * lane))
    eye_x = _draw_eye(rng, sides, drive * (lanes - 0.5) * lane)
    near = rng.uniform(14, 40)
    shadow = -toward_sun / max(float(toward_sun[1]), 0.15)
    street = Street(
        sides=sides,
        lanes=lanes,
        lane=lane,
        drive=drive,
        crossing=(near, near + rng.uniform(6, 10)) if rng.uniform() < 0.4 else None,
        eye_x=eye_x,
        shadow=shadow * [1, 0, 1],
        seed=int(rng.randint(1 << 31)),
    )
    fill_street(rng, street)
    return street


def _draw_eye(rng: Rng, sides: tuple[Side, Side], own_lane: float) -> float:
    """Where the camera is, right of the middle: in a car, on the sidewalk, or on the grass."""
    own, chance = sides[rng.randint(2)], rng.uniform()
    if chance < 0.15 and own.kind in ("suburb", "park", "field"):
        return own.side * (own.back + rng.uniform(1.0, 2.5))
    if chance < 0.3:
        return own.side * (own.kerb + (own.back - own.kerb) * 0.4)
    return own_lane


def _draw_side(rng: Rng, side: int, road: float) -> Side:
    """A side of a kind; `road` is half the width of the lanes in metres."""
    kind = list(KINDS)[int(np.searchsorted(np.cumsum(list(KINDS.values()))[:-1], rng.uniform()))]
    parking = rng.uniform() < 0.5
    kerb = road + (rng.uniform(1.8, 2.3) if parking else rng.uniform(0.1, 0.6))
    walk = rng.uniform(1.8, 5.5)
    if rng.uniform() < {"park": 0.4, "field": 0.5}.get(kind, 0.0):
        walk = 0.3  # lawn or field right up to the road
    garden = {"suburb": rng.uniform(3, 7), "blocks": rng.uniform(1, 5)}.get(kind, 0.0)
    return Side(side, kind, kerb, kerb + walk, kerb + walk + garden)


def _draw_view(rng: Rng, street: Street, height: int, width: int) -> View:
    """A camera behind a windscreen, or at the eyes of somebody on foot."""
    walking = abs(street.eye_x) > street.lanes * street.lane
    inward = -np.sign(street.eye_x) * rng.uniform(0.0, 0.3) if walking else 0.0
    return make_view(
        height,
        width,
        eye=(street.eye_x, rng.uniform(1.5, 1.75) if walking else rng.uniform(1.2, 1.9), 0.0),
        focal=max(width, height * 4 / 3) * rng.uniform(0.75, 1.15),
        horizon=height * rng.uniform(0.4, 0.54),
        yaw=rng.uniform(-0.16, 0.16) + inward,
        roll=rng.normal() * 0.008,
    )


def write_scenes(
    folder: Path, split: str, count: int, seed: int, renumber: Mapping[int, int] | None = None
) -> None:
    """Write scenes `seed` to `seed + count - 1` to images/SPLIT/*.jpg and annotations/SPLIT/*.png.

    The names carry the seeds, so that any scene can be drawn again. `renumber` gives classes other
    numbers, for photographs whose labels do not tell, say, a bus (81) from a car (21). Raises
    ValueError, before anything is written, for a negative count or a seed that `draw_scene`
    refuses.
    """
    if count < 0 or seed < 0 or seed + count > 2**32:
        raise ValueError(
            "count and seed must be 0 or more and end below 2**32, "
            f"got {count} scenes from {seed}: choose smaller ones"
        )
    images, annotations = folder / "images" / split, folder / "annotations" / split
    for place in (images, annotations):
        place.mkdir(parents=True, exist_ok=True)
    numbers = np.arange(256, dtype=np.uint8)
    for old, new in (renumber or {}).items():
        numbers[old] = new
    for number in range(seed, seed + count):
        image, labels = draw_scene(number)
        Image.fromarray(image).save(images / f"scene_{number:08d}.jpg", quality=JPEG_QUALITY)
        Image.fromarray(numbers[labels]).save(annotations / f"scene_{number:08d}.png")


def main(argv: list[str] | None = None) -> None:
    """The command line; prints the folder."""
    parser = argparse.ArgumentParser(description="Write drawn street scenes with exact labels.")
    parser.add_argument("folder", type=Path, help="where images/ and annotations/ are made")
    parser.add_argument("--count", type=int, default=100, help="how many (%(default)s)")
    parser.add_argument("--split", default="training", help="subfolder (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the first scene (%(default)s)")
    given = parser.parse_args(argv)
    try:
        write_scenes(given.folder, given.split, given.count, given.seed)
    except ValueError as error:
        parser.error(str(error))
    print(given.folder)


if __name__ == "__main__":
    main()
