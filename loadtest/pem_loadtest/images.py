"""The images to send: good ones of mixed sizes and encodings, encoded once, and broken ones."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
MOST_IMAGES = 200  # of a folder: more would only cost memory

# Width and height, the share among images: as phones, web pages and street cameras send them.
_SIZES = {
    (320, 240): 0.10,
    (640, 480): 0.30,
    (960, 720): 0.25,
    (1280, 720): 0.20,
    (720, 1280): 0.10,
    (1920, 1080): 0.05,
}
_FORMATS = {"JPEG": 0.8, "PNG": 0.1, "WEBP": 0.1}
_MADE = 24


class EncodedImage(NamedTuple):
    """One encoded image. width, height: upright, in pixels; 0 where it is broken."""

    name: str
    data: bytes
    width: int
    height: int

    @property
    def is_broken(self) -> bool:
        """Whether the server must refuse it."""
        return not self.width


def read_folder(folder: Path) -> list[EncodedImage]:
    """The images of a folder, at most MOST_IMAGES spread over it; ValueError without any."""
    files = sorted(file for file in folder.glob("*") if file.suffix.lower() in SUFFIXES)
    if not files:
        raise ValueError(f"{folder} contains no images ({', '.join(SUFFIXES)})")
    chosen = files[:: -(-len(files) // MOST_IMAGES)]
    return [_image(file.name, file.read_bytes()) for file in chosen]


def make_images(original: Path, seed: int, number: int = _MADE) -> list[EncodedImage]:
    """Images made from one, in the sizes and encodings above."""
    rng = np.random.default_rng(seed)
    with Image.open(original) as opened:
        source = opened.convert("RGB")
    sizes, formats = list(_SIZES), list(_FORMATS)
    made = []
    for index in range(number):
        size = sizes[rng.choice(len(sizes), p=list(_SIZES.values()))]
        encoding = formats[rng.choice(len(formats), p=list(_FORMATS.values()))]
        file = io.BytesIO()
        ImageOps.fit(source, size, Image.Resampling.BILINEAR).save(file, encoding)
        made.append(_image(f"{index}-{size[0]}x{size[1]}.{encoding.lower()}", file.getvalue()))
    return made


def make_broken(image: EncodedImage) -> list[EncodedImage]:
    """What arrives where uploads fail; none of it is an image."""
    return [
        EncodedImage("truncated", image.data[: len(image.data) // 2], 0, 0),
        EncodedImage("text", b"<html>502 Bad Gateway</html>", 0, 0),
        EncodedImage("empty", b"", 0, 0),
        EncodedImage("noise", bytes(np.random.default_rng(0).bytes(2000)), 0, 0),
    ]


def choose(
    good: Sequence[EncodedImage],
    broken: Sequence[EncodedImage],
    share: float,
    number: int,
    rng: np.random.Generator,
) -> list[int]:
    """Which image each of `number` arrivals sends: indices of good + broken, `share` broken."""
    is_broken = rng.random(number) < share
    chosen = np.where(
        is_broken,
        len(good) + rng.integers(len(broken), size=number),
        rng.integers(len(good), size=number),
    )
    return [int(index) for index in chosen]


def _image(name: str, data: bytes) -> EncodedImage:
    try:
        with Image.open(io.BytesIO(data)) as opened:
            width, height = ImageOps.exif_transpose(opened).size
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise ValueError(f"{name} is not an image ({error}): remove it") from error
    return EncodedImage(name, data, width, height)
