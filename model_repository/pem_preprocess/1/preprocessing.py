"""From the bytes of image files to the network's input.

Each image is checked, decoded, turned upright, converted to RGB, fitted into a square at the top
left and padded. Anyone can send bytes, so their cost is checked before they are decoded.
"""

import io
import warnings
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, WebPImagePlugin

from pem_server.image_header import (
    MAX_SIDE,
    ImageError,
    LimitError,
    Limits,
    check_size,
    png_without_metadata,
    read_header,
)
from pem_server.step_inputs import for_each_image

__all__ = ["ImageError", "LimitError", "Limits", "decode", "fit", "prepare"]

FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
PIXEL_MEAN = (124, 116, 104)  # RGB, the mean that the network subtracts: padding becomes zero
# A JPEG is decoded at a half, a quarter or an eighth of its size while that is at least this many
# times the network's input. 101 photographs enlarged to 1920x1440 had a mIoU of 64.41 this way and
# 64.34 decoded in full; at a factor of 1, halving 1280x960 would have cost 0.19.
MIN_DRAFT_SCALE = 1.5
MIN_DRAFT_SIDE = 32  # pixels; a shorter side would end in a pixel that is half padding
# What a JPEG that was cut may lack is its end marker alone. Behind its last byte either of these
# changes what is decoded, unless all of the pixels stand before them.
PADDINGS = (b"\x00" * 64 + b"\xff\xd9", b"\x55" * 64 + b"\xff\xd9")
STRIP_PIXELS = 1 << 20  # of an image that is converted strip by strip, to hold one copy of it less

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
    header = read_header(encoded, limits)
    try:
        # Pillow raises nearly any type on hostile bytes (SyntaxError, struct.error, OSError, ...)
        # and warns about what it could still read.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if header.is_cut:
                return _decode_cut(encoded, limits, side)
            return _decode_whole(png_without_metadata(encoded), limits, side)
    except (ImageError, MemoryError):
        raise
    except Exception as error:
        raise ImageError(
            f"image must be a whole JPEG, PNG, WebP or BMP file, but these {len(encoded):,} bytes "
            "cannot be decoded as one; send the file's bytes, not a path, raw pixels or base64"
        ) from error


def _decode_whole(encoded: bytes, limits: Limits, side: int) -> tuple[Image.Image, tuple[int, int]]:
    image: Image.Image = Image.open(io.BytesIO(encoded), formats=FORMATS)
    check_size(*image.size, limits)
    turn, (width, height) = _turn_to_upright(image), image.size
    draft_size = fitted_size(width, height, MIN_DRAFT_SCALE * side)
    image.draft(None, np.maximum(draft_size, MIN_DRAFT_SIDE).tolist())  # JPEG only
    image = _to_rgb(_without_decoder(image))  # the only name of each, so that it is freed
    if turn is not None:
        image = image.transpose(turn)
    return image, (width, height) if turn in _SWAP_SIDES else (height, width)


def _decode_cut(encoded: bytes, limits: Limits, side: int) -> tuple[Image.Image, tuple[int, int]]:
    """Decode a JPEG without its end marker, if nothing else of it is missing."""
    try:
        return _decode_whole(encoded, limits, side)
    except OSError:
        first, second = (
            _decode_whole(encoded.rstrip(b"\xff") + padding, limits, side) for padding in PADDINGS
        )
        if first[0].tobytes() != second[0].tobytes():
            raise
        return first


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


def _turn_to_upright(image: Image.Image) -> Image.Transpose | None:
    try:
        return _TO_UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # damaged EXIF is no reason to refuse a good image
        return None


def _without_decoder(image: Image.Image) -> Image.Image:
    """A WebP image decoded, of 4 bytes a pixel: its decoder, which holds 8 more, is freed first."""
    if not isinstance(image, WebPImagePlugin.WebPImageFile):
        return image
    size, mode = image.size, image.rawmode  # RGBA or RGBX
    data, *_ = image._get_next()
    del image._decoder
    return Image.frombuffer(mode, size, data, "raw", mode, 0, 1)  # without a copy


def _to_rgb(image: Image.Image) -> Image.Image:
    """An image in RGB, of any mode; at most two of 4 bytes a pixel exist at a time."""
    if image.mode == "RGB" and "transparency" not in image.info:
        image.load()  # convert() would copy it
        return image
    if not image.has_transparency_data and not image.mode.startswith("I;16"):
        return image.convert("RGB")
    image.load()
    rgb = Image.new("RGB", image.size, "white")
    for top, strip in _strips(image):
        if image.mode.startswith("I;16"):
            rgb.paste(_grey_of_8_bits(strip, image.info.get("transparency")), (0, top))
        else:
            strip.info = image.info
            strip = strip.convert("RGBA")
            rgb.paste(strip, (0, top), strip)
    return rgb


def _strips(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    rows = max(1, STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        yield top, image.crop((0, top, image.width, min(image.height, top + rows)))


def _grey_of_8_bits(image: Image.Image, transparent: int | None) -> Image.Image:
    """Scale 16 bits; convert() would clip at 255. One level may stand for transparency: white."""
    values = np.asarray(image).astype(np.uint32)
    grey = ((values + 128) // 257).astype(np.uint8)
    if transparent is not None:
        grey[values == transparent] = 255
    return Image.fromarray(grey)
