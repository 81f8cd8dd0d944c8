"""Random scale, crop and flip of an image with its labels; the color jitter is in color.py."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pem_training.color import STRENGTHS

PIXEL_MEAN = (124, 116, 104)  # RGB; what the server pads with, zero to the network

Pixels = NDArray[np.uint8]
Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels of the whole image


@dataclass(frozen=True)
class Augmentation:
    """The random changes of an image.

    crop: side of the result, a multiple of 32. scale: the range of the factor by which images
    are scaled. short_side: what the factor is relative to; 0: to each image's own size.
    overhang: the share of the crop that may lie beyond the right and the lower edge of an image,
    where the server pads: a network that never saw padding does worse at it.
    color: a key of STRENGTHS.
    """

    crop: int = 512
    scale: tuple[float, float] = (0.5, 2.0)
    short_side: int = 512
    overhang: float = 0.0
    color: str = "ssd"


def augment(
    image: Image.Image, labels: Image.Image, rng: np.random.Generator, how: Augmentation
) -> tuple[Pixels, Pixels]:
    """A crop (crop, crop, 3) of the image and its labels (crop, crop), both uint8.

    An image that is smaller than the crop, once scaled, is at the top left; the rest is the
    pixel mean without labels.
    """
    factor = rng.uniform(*how.scale)
    if how.short_side:
        factor *= how.short_side / min(image.size)
    box, width, height = random_crop(image.size, factor, how, rng)
    pixels = np.full((how.crop, how.crop, 3), PIXEL_MEAN, np.uint8)
    label_crop = np.zeros((how.crop, how.crop), np.uint8)
    # Scaling only the patch costs as much as the crop, however large the image is.
    patch = image.resize((width, height), Image.Resampling.BILINEAR, box=box)
    patch = STRENGTHS[how.color](patch, rng)
    pixels[:height, :width] = np.asarray(patch)
    label_crop[:height, :width] = np.asarray(
        labels.resize((width, height), Image.Resampling.NEAREST, box=box)
    )
    if rng.random() < 0.5:
        # Only the image is mirrored: padding stays right and below, where the server puts it.
        pixels[:height, :width] = pixels[:height, :width][:, ::-1].copy()
        label_crop[:height, :width] = label_crop[:height, :width][:, ::-1].copy()
    return pixels, label_crop


def random_crop(
    size: tuple[int, int], factor: float, how: Augmentation, rng: np.random.Generator
) -> tuple[Box, int, int]:
    """The part of an image of `size` (width, height) to take, and its size in the crop.

    The part is what a crop x crop window covers of the image once scaled by `factor`.
    """
    starts, lengths, ends = [], [], []
    for side in size:
        scaled = max(1, round(side * factor))
        last = max(0, scaled - how.crop)
        overhang = min(round(how.overhang * how.crop), scaled - 1 - last)
        start = int(rng.integers(0, last + overhang + 1))
        length = min(how.crop, scaled - start)
        starts.append(start * side / scaled)
        ends.append((start + length) * side / scaled)
        lengths.append(length)
    return (starts[0], starts[1], ends[0], ends[1]), lengths[0], lengths[1]
