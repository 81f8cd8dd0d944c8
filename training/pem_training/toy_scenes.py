"""Toy street scenes with exact labels, for tests and smoke runs without any photographs.

    python -m pem_training.toy_scenes FOLDER --training 8 --validation 4 --seed 0

writes a folder in the layout of the ADE20K scene-parsing data. The scenes are as plain as they
sound: they show that a network learns, not how good it is.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

# Labels as ADE20K numbers them: class id + 1.
BUILDING, SKY, TREE, ROAD, WINDOW, GRASS, PERSON, CAR = 2, 3, 5, 7, 9, 10, 13, 21

SIDES = (120, 200)  # the range of both sides in a folder
NOISE = 6.0  # standard deviation of each pixel, of 255

Pixels = NDArray[np.uint8]
Color = tuple[int, int, int]
Point = tuple[float, float]  # x and y


@dataclass
class Canvas:
    """An image and its labels, in which every shape is drawn at the same place."""

    image: Image.Image
    labels: Image.Image

    def draw(self, shape: str, points: Sequence[Point], label: int, color: Color) -> None:
        """A "polygon" of its corners, or a "rectangle" or "ellipse" of two; places from 0 to 1."""
        places = [(round(x * self.image.width), round(y * self.image.height)) for x, y in points]
        for image, fill in ((self.image, color), (self.labels, label)):
            getattr(ImageDraw.Draw(image), shape)(places, fill=fill)


def toy_scene(seed: int, height: int, width: int) -> tuple[Pixels, Pixels]:
    """A street: image (H, W, 3) and labels (H, W), both uint8.

    One seed and size always give the same bytes, with the same NumPy and Pillow.
    """
    rng = np.random.default_rng(seed)
    canvas = Canvas(Image.new("RGB", (width, height)), Image.new("L", (width, height)))
    horizon = rng.uniform(0.4, 0.6)
    _draw_sky(canvas, rng, horizon)
    _draw_ground(canvas, rng, horizon)
    shapes = ((_draw_building, 1), (_draw_tree, 1), (_draw_car, 0), (_draw_person, 0))
    for draw, fewest in shapes:
        for _ in range(rng.integers(fewest, fewest + 3)):
            draw(canvas, rng, horizon)
    pixels = np.asarray(canvas.image) + rng.normal(0, NOISE, (height, width, 3))
    return np.clip(pixels, 0, 255).astype(np.uint8), np.array(canvas.labels)


def _color(rng: np.random.Generator, *rgb: int, change: int = 20) -> Color:
    """A color like the given one."""
    r, g, b = np.clip(rgb + rng.integers(-change, change + 1, 3), 0, 255).tolist()
    return r, g, b


def _draw_sky(canvas: Canvas, rng: np.random.Generator, horizon: float) -> None:
    """From blue or grey at the top to nearly white at the horizon."""
    top = np.array(_color(rng, *((90, 140, 210) if rng.random() < 0.7 else (150, 155, 165))))
    bands = 12
    for band in range(bands):
        r, g, b = (top + (225 - top) * band // bands).tolist()
        start, end = horizon * band / bands, horizon * (band + 1) / bands
        canvas.draw("rectangle", [(0, start), (1, end)], SKY, (r, g, b))


def _draw_ground(canvas: Canvas, rng: np.random.Generator, horizon: float) -> None:
    """Grass, and a road to a point on the horizon."""
    canvas.draw("rectangle", [(0, horizon), (1, 1)], GRASS, _color(rng, 85, 130, 60))
    end, left, right = rng.uniform(0.35, 0.65), rng.uniform(-0.3, 0.2), rng.uniform(0.8, 1.3)
    corners = [(end - 0.02, horizon), (end + 0.02, horizon), (right, 1.0), (left, 1.0)]
    canvas.draw("polygon", corners, ROAD, _color(rng, 95, 95, 100))


def _draw_building(canvas: Canvas, rng: np.random.Generator, horizon: float) -> None:
    """A box on the horizon, with rows of windows."""
    width, height = rng.uniform(0.15, 0.3), rng.uniform(0.2, horizon - 0.05)
    left, foot = rng.uniform(-0.1, 0.9), horizon + 0.02
    wall, pane = _color(rng, 165, 115, 90, change=45), _color(rng, 50, 60, 75)
    canvas.draw("rectangle", [(left, foot - height), (left + width, foot)], BUILDING, wall)
    for y in np.arange(foot - height + 0.04, foot - 0.08, 0.1):
        for x in np.arange(left + 0.03, left + width - 0.05, 0.07):
            canvas.draw("rectangle", [(x, y), (x + 0.03, y + 0.05)], WINDOW, pane)


def _draw_tree(canvas: Canvas, rng: np.random.Generator, horizon: float) -> None:
    """An ellipse of leaves on a trunk; ADE20K labels both as tree."""
    x, foot = rng.uniform(0.05, 0.95), horizon + rng.uniform(0.02, 0.12)
    half, height = rng.uniform(0.06, 0.11), rng.uniform(0.25, 0.4)
    trunk = [(x - 0.012, foot - height / 2), (x + 0.012, foot)]
    leaves = [(x - half, foot - height), (x + half, foot - height / 4)]
    canvas.draw("rectangle", trunk, TREE, _color(rng, 90, 65, 45))
    canvas.draw("ellipse", leaves, TREE, _color(rng, 40, 85, 35))


def _draw_car(canvas: Canvas, rng: np.random.Generator, horizon: float) -> None:
    """Two boxes on two wheels, larger the nearer they are."""
    foot = rng.uniform(horizon + 0.1, 0.95)
    size, left = 0.1 + 0.4 * (foot - horizon), rng.uniform(0.1, 0.7)
    paint = _color(rng, *((190, 30, 30), (40, 60, 170), (225, 225, 225))[rng.integers(3)])
    cabin = [(left + size / 5, foot - size / 2), (left + size * 4 / 5, foot - size / 5)]
    body = [(left, foot - size * 0.3), (left + size, foot - size / 20)]
    for box in (cabin, body):
        canvas.draw("rectangle", box, CAR, paint)
    for x in (left + size / 4, left + size * 3 / 4):
        wheel = [(x - size / 10, foot - size / 8), (x + size / 10, foot)]
        canvas.draw("ellipse", wheel, CAR, (25, 25, 25))


def _draw_person(canvas: Canvas, rng: np.random.Generator, horizon: float) -> None:
    """A stick with a head."""
    x, foot = rng.uniform(0.05, 0.95), rng.uniform(horizon + 0.1, 0.95)
    height = 0.15 + 0.5 * (foot - horizon)
    half = height / 12
    stick = [(x - half, foot - height * 0.85), (x + half, foot)]
    head = [(x - half, foot - height), (x + half, foot - height * 0.8)]
    canvas.draw("rectangle", stick, PERSON, _color(rng, 120, 50, 120, change=50))
    canvas.draw("ellipse", head, PERSON, (215, 170, 140))


def write_dataset(folder: Path, training: int, validation: int, seed: int) -> None:
    """Write so many scenes for each split, every one of another seed and a random size."""
    first = seed
    for split, count in (("training", training), ("validation", validation)):
        for kind in ("images", "annotations"):
            (folder / kind / split).mkdir(parents=True, exist_ok=True)
        for number in range(first, first + count):
            height, width = np.random.default_rng(number).integers(*SIDES, 2).tolist()
            image, labels = toy_scene(number, height, width)
            name = f"toy_{number:06d}"
            Image.fromarray(image).save(folder / "images" / split / f"{name}.jpg", quality=92)
            Image.fromarray(labels).save(folder / "annotations" / split / f"{name}.png")
        first += count


def main(argv: Sequence[str] | None = None) -> None:
    """The command line; prints the folder."""
    parser = argparse.ArgumentParser(
        prog="python -m pem_training.toy_scenes",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, help="where images/ and annotations/ are made")
    parser.add_argument("--training", type=int, default=8, help="scenes of it (%(default)s)")
    parser.add_argument("--validation", type=int, default=4, help="scenes of it (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the first scene (%(default)s)")
    options = parser.parse_args(argv)
    write_dataset(options.folder, options.training, options.validation, options.seed)
    print(options.folder)


if __name__ == "__main__":
    main()
