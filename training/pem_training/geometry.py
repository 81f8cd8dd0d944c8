"""How the server fits an image into the network's square, and scales the answer back.

The server's steps share no code with this package (they run without it); a test proves that both
do the same. S is the side of the square.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pem_training.augmentation import PIXEL_MEAN

Pixels = NDArray[np.uint8]


def fit(image: Image.Image, side: int) -> tuple[Pixels, tuple[int, int]]:
    """The image in a square (S, S, 3), at the top left, its longer side filling it.

    Returns the square, padded with the pixel mean, and the (height, width) that the image fills.
    """
    scale = side / max(image.size)
    width, height = (max(1, round(length * scale)) for length in image.size)
    square = np.full((side, side, 3), PIXEL_MEAN, np.uint8)
    square[:height, :width] = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))
    return square, (height, width)


def scale_back(answer: Pixels, side: int, fitted: tuple[int, int], size: tuple[int, int]) -> Pixels:
    """The map `answer`, (S, S) or at stride 2 or 4, on the image: (height, width) = `size`.

    Nearest, by pixel centres: row i reads floor((i + 0.5) * fitted / height / stride).
    """
    stride = side // len(answer)
    rows, columns = (
        (2 * np.arange(length) + 1) * filled // (2 * length * stride)
        for length, filled in zip(size, fitted, strict=True)
    )
    return answer[rows[:, None], columns]
