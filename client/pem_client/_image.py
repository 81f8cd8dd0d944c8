"""Images in: encoded for the server, decoded for an overlay."""

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from ._errors import ImageError

ImageInput = str | os.PathLike[str] | bytes | Image.Image | NDArray[np.uint8]

# What PNG holds without loss; other modes (CMYK, HSV, float) are converted to RGB.
_PNG_MODES = {"1", "L", "LA", "P", "RGB", "RGBA", "I;16"}
_TO_UPRIGHT = {  # by EXIF orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_UNREADABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)


def encode_image(image: ImageInput) -> bytes:
    """The encoded image to send: a file's content and bytes unchanged, the rest as PNG."""
    if isinstance(image, str | os.PathLike):
        return _read(image)
    if isinstance(image, bytes):
        return image
    buffer = io.BytesIO()
    try:
        upright = _upright(image)
        if upright.mode not in _PNG_MODES:
            upright = upright.convert("RGB")
        # Level 1: 10 to 20% larger than the default, and several times faster. Pillow omits EXIF,
        # so the server does not turn the upright image again.
        upright.save(buffer, format="PNG", compress_level=1)
    except _UNREADABLE as error:
        raise _not_an_image(error) from error
    return buffer.getvalue()


def upright_rgb(image: ImageInput) -> Image.Image:
    """The image as the server saw it: EXIF orientation applied, on white, RGB. A copy."""
    if isinstance(image, str | os.PathLike):
        image = _read(image)
    try:
        if isinstance(image, bytes):
            image = Image.open(io.BytesIO(image))
        return _rgb(_upright(image))
    except _UNREADABLE as error:
        raise _not_an_image(error) from error


def decode_png(png: bytes) -> NDArray[Any]:
    """The (H, W) values of a one-channel PNG: bool for 1 bit, else uint8 (palette: the index)."""
    try:
        image = Image.open(io.BytesIO(png), formats=["PNG"])
        values = np.array(image)
    except _UNREADABLE as error:
        raise _not_an_image(error) from error
    if image.mode not in {"1", "L", "P"}:
        raise ImageError(f"a mask must be a one-channel 8-bit or 1-bit PNG, got {image.mode}")
    return values


def _read(path: str | os.PathLike[str]) -> bytes:
    try:
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a path with a null character
        reason = getattr(error, "strerror", None) or error
        raise ImageError(f"cannot read {os.fspath(path)}: {reason}") from error


def _upright(image: Image.Image | NDArray[np.uint8]) -> Image.Image:
    if not isinstance(image, Image.Image):
        return Image.fromarray(_checked_array(image))
    image.load()
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # damaged EXIF raises anything; the server does not turn such an image either
        orientation = 1
    turn = _TO_UPRIGHT.get(orientation)
    return image.copy() if turn is None else image.transpose(turn)


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):  # convert() would clip at 255 instead of scaling
        image = Image.fromarray((np.asarray(image) / 257).round().astype(np.uint8))
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    on_white = Image.new("RGB", image.size, "white")
    on_white.paste(image, mask=image)
    return on_white


def _checked_array(image: object) -> NDArray[np.uint8]:
    if not isinstance(image, np.ndarray):
        raise ImageError(
            "image must be a path, encoded bytes, a PIL image or an array, "
            f"got {type(image).__name__}"
        )
    shape_fits = image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)
    if not shape_fits or image.dtype != np.uint8 or image.size == 0:
        raise ImageError(
            "image must be a uint8 array of shape (H, W, 3) in RGB order or (H, W), not empty, "
            f"got {image.shape} {image.dtype}"
        )
    return image


def _not_an_image(error: Exception) -> ImageError:
    if isinstance(error, ImageError):
        return error
    unknown = isinstance(error, UnidentifiedImageError)  # its text is an object's address
    return ImageError(f"cannot decode the image: {'unknown format' if unknown else error}")
