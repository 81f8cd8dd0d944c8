"""An image for the eye: what is labelled beside what the network answers."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pem_client import class_colour

Pixels = NDArray[np.uint8]


def side_by_side(image: Image.Image, truth: Pixels, answer: Pixels) -> Pixels:
    """The image (H, 2 W, 3) under the colours of `truth` and of `answer`, (H, W) labels."""
    return np.concatenate([_tint(image, labels) for labels in (truth, answer)], axis=1)


def _tint(image: Image.Image, labels: Pixels) -> Pixels:
    """Half image, half colour of the class; what has no label stays as it is."""
    colours = np.array([(0, 0, 0), *(class_colour(number) for number in range(255))], np.uint16)
    pixels = np.asarray(image, np.uint16)  # (H, W, 3)
    mixed = np.where(labels[..., None] > 0, (pixels + colours[labels]) // 2, pixels)
    return mixed.astype(np.uint8)
