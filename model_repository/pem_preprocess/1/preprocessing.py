"""From the bytes of image files to the network's input.

Each image is checked, decoded, turned upright, converted to RGB, fitted into a square at the top
left and padded. Anyone can send bytes, so their cost is checked before they are decoded.
"""

import io
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image

from pem_server.step_inputs import InputError, for_each_image

FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
PIXEL_MEAN = (124, 116, 104)  # RGB, the mean that the network subtracts: padding becomes zero
MAX_SIDE = 65_535  # JPEG's own limit; longer sides make the resize weights of one row huge
# A JPEG is decoded at a half, a quarter or an eighth of its size while that is at least this many
# times the network's input. 101 photographs enlarged to 1920x1440 had a mIoU of 64.41 this way and
# 64.34 decoded in full; at a factor of 1, halving 1280x960 would have cost 0.19.
MIN_DRAFT_SCALE = 1.5
MIN_DRAFT_SIDE = 32  # pixels; a shorter side would end in a pixel that is half padding
# Ordinary files have about 10 scans. Another one costs 10 bytes to send and 10 ms to decode at 64
# megapixels, so without a limit a 20 MB file would keep this step busy for hours.
MAX_JPEG_SCANS = 100

Image.MAX_IMAGE_PIXELS = None  # replaced by Limits.max_pixels, which answers with a sentence

_TO_UPRIGHT = {  # by EXIF orientation; 1 and unknown values need nothing
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SWAP_SIDES = tuple(_TO_UPRIGHT[orientation] for orientation in (5, 6, 7, 8))
# Markers that start a segment; stuffing (00), fill (FF), TEM, RSTn and SOI do not.
_JPEG_SEGMENT = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")


class ImageError(InputError):
    """The client's image cannot be used; the text is a sentence for the client."""

    outcome = "bad_image"  # what the metrics call it


class LimitError(ImageError):
    """The image may be good, but costs more than the limits allow."""

    outcome = "too_large"


@dataclass(frozen=True)
class Limits:
    """What one image may cost before it is decoded."""

    max_bytes: int
    max_pixels: int


def prepare(
    encoded: Sequence[bytes], limits: Limits, size: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
    """Decode and fit N images; returns fitted images (N, size, size, 3) and geometries (N, 4).

    A geometry is (height, width, fitted_height, fitted_width) of the upright image. Raises
    ImageError for the first image that cannot be used, naming its place when N > 1.
    """
    fitted = np.empty((len(encoded), size, size, 3), np.uint8)
    geometry = np.empty((len(encoded), 4), np.int32)

    def prepare_one(n: int) -> None:
        image, original = decode(encoded[n], limits, size)
        geometry[n] = fit(image, fitted[n], original)

    for_each_image(len(encoded), prepare_one)
    return fitted, geometry


def decode(
    encoded: bytes, limits: Limits, side: int = MAX_SIDE
) -> tuple[Image.Image, tuple[int, int]]:
    """Decode one JPEG, PNG, WebP or BMP file to an upright RGB image.

    Returns it with the upright file's (height, width). A JPEG is decoded at a half, a quarter or an
    eighth of that where its longer side still has MIN_DRAFT_SCALE * `side` pixels. Animations give
    their first frame, transparency is blended with white. Raises ImageError for everything that is
    not such a file within the limits.
    """
    _check_bytes(encoded, limits)
    try:
        # Pillow raises nearly any type on hostile bytes (SyntaxError, struct.error, OSError, ...)
        # and warns about what it could still read.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(encoded), formats=FORMATS)
            _check_header(image, encoded, limits)
            turn, (width, height) = _turn_to_upright(image), image.size
            draft_size = fitted_size(width, height, MIN_DRAFT_SCALE * side)
            image.draft(None, np.maximum(draft_size, MIN_DRAFT_SIDE).tolist())  # JPEG only
            rgb = _to_rgb(image if turn is None else image.transpose(turn))
            return rgb, (width, height) if turn in _SWAP_SIDES else (height, width)
    except (ImageError, MemoryError):
        raise
    except Exception as error:
        raise ImageError(
            f"image must be a whole JPEG, PNG, WebP or BMP file, but these {len(encoded):,} bytes "
            "cannot be decoded as one; send the file's bytes, not a path, raw pixels or base64"
        ) from error


def fit(
    image: Image.Image,
    square: npt.NDArray[np.uint8],
    original: tuple[int, int] | None = None,
) -> tuple[int, int, int, int]:
    """Write an RGB image into `square` (S, S, 3): its longer side fills S, the rest is padding.

    `original` is the file's (height, width) where it was decoded smaller. Returns (height, width,
    fitted_height, fitted_width).
    """
    original = original or (image.height, image.width)
    width, height = fitted_size(original[1], original[0], len(square))
    if image.size != (width, height):  # else resize() would copy it
        image = image.resize((width, height), Image.Resampling.BILINEAR)  # averages
    square[:height, :width] = np.asarray(image)
    padding = np.tile(np.array(PIXEL_MEAN, np.uint8), (len(square), 1))  # (S, 3): rows are copied
    square[:height, width:] = padding[width:]
    square[height:] = padding
    return *original, height, width


def fitted_size(width: int, height: int, side: float) -> tuple[int, int]:
    """Return the width and height that fill a square of that side, aspect kept."""
    scale = side / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _check_bytes(encoded: bytes, limits: Limits) -> None:
    if not encoded:
        raise ImageError("image must not be empty, but 0 bytes arrived; send the bytes of the file")
    if len(encoded) > limits.max_bytes:
        raise LimitError(
            f"image must have at most {limits.max_bytes:,} bytes, but {len(encoded):,} arrived; "
            "send a smaller or more compressed file"
        )


def _check_header(image: Image.Image, encoded: bytes, limits: Limits) -> None:
    width, height = image.size
    if width * height > limits.max_pixels or max(width, height) > MAX_SIDE:
        raise LimitError(
            f"image must have at most {limits.max_pixels:,} pixels and {MAX_SIDE:,} a side, "
            f"but its header says {width:,} x {height:,}; scale it down"
        )
    if image.format in ("JPEG", "MPO") and _count_jpeg_scans(encoded) > MAX_JPEG_SCANS:
        raise LimitError(
            f"image must be a JPEG of at most {MAX_JPEG_SCANS} scans, but this one has more; "
            "save it again as an ordinary JPEG"
        )


def _count_jpeg_scans(encoded: bytes) -> int:
    """Count the scans of a file's first image; skipping segments leaves out EXIF thumbnails."""
    scans, position = 0, 0
    while segment := _JPEG_SEGMENT.search(encoded, position):
        if segment[0] == b"\xff\xd9":  # end of the image
            break
        scans += segment[0] == b"\xff\xda"
        position = segment.end() + int.from_bytes(encoded[segment.end() : segment.end() + 2], "big")
    return scans


def _turn_to_upright(image: Image.Image) -> Image.Transpose | None:
    try:
        return _TO_UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # damaged EXIF is no reason to refuse a good image
        return None


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):  # convert() would clip at 255 instead of scaling
        values = np.asarray(image).astype(np.uint32)
        image = Image.fromarray(((values + 128) // 257).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGB", image.size, "white")
        white.paste(image, mask=image)
        return white
    if image.mode == "RGB":
        image.load()  # convert() would copy it
        return image
    return image.convert("RGB")
