"""From the network's index map to one image of classes: an 8-bit palette PNG.

Letters: Q queries, S side of the (S, S) index map.
"""

import io
import zlib

import numpy as np
import numpy.typing as npt
from PIL import Image

DEFAULT_THRESHOLD = 0.5  # the model card's

UInt8Array = npt.NDArray[np.uint8]
Int32Array = npt.NDArray[np.int32]
Int64Array = npt.NDArray[np.int64]
Float32Array = npt.NDArray[np.float32]


class InputError(ValueError):
    """The client sent a value that cannot be used; the text is a sentence for the client."""


def render(
    class_ids: Int32Array,
    scores: Float32Array,
    masks: UInt8Array,
    geometry: Int32Array,
    threshold: Float32Array | None,
    max_pixels: int,
) -> list[bytes]:
    """Return the PNG of each of N images.

    `class_ids` (N, Q), `scores` (N, Q), `masks` (N, S, S), `geometry` (N, 4), `threshold` (N, 1).
    Raises InputError for the first item that cannot be used, naming its place when N > 1.
    """
    thresholds = [DEFAULT_THRESHOLD] * len(scores) if threshold is None else threshold[:, 0]
    images = []
    for index, item in enumerate(zip(class_ids, scores, masks, geometry, thresholds, strict=True)):
        try:
            images.append(segmentation_png(*item, max_pixels))
        except InputError as error:
            if len(scores) == 1:
                raise
            place = f"image {index} of {len(scores)} (counted from 0)"
            raise InputError(f"{place}: {error}") from error
    return images


def check_threshold(value: float) -> None:
    """Raise InputError out of 0..1, and for NaN."""
    if not 0 <= value <= 1:
        raise InputError(
            f"threshold must be a number from 0 to 1, got {value:g}; leave it out for "
            f"{DEFAULT_THRESHOLD}"
        )


def segmentation_png(
    class_ids: Int32Array,
    scores: Float32Array,
    masks: UInt8Array,
    geometry: Int32Array,
    threshold: float,
    max_pixels: int,
) -> bytes:
    """Return the PNG, original size, of class id + 1 for each pixel; 0 where nothing was found.

    `class_ids` (Q,), `scores` (Q,), `masks` (S, S) of query indices, `geometry` (4,). InputError
    for a threshold out of 0..1, a geometry that no accepted image has, class ids out of 0..254.
    """
    check_threshold(threshold)
    if class_ids.min() < 0 or class_ids.max() > 254:
        raise InputError(
            f"class_ids must be from 0 to 254, got {class_ids.min()} to {class_ids.max()}; "
            "send what pem_network answers"
        )
    rows, columns = map_indices(masks, geometry, max_pixels)
    values = np.zeros(256, np.uint8)  # of each query index; those without a query stay 0
    values[: len(scores)] = np.where(scores > threshold, class_ids + 1, 0)
    pixels = values[masks].take(rows, axis=0).take(columns, axis=1)  # (height, width)
    image = Image.fromarray(pixels)
    image.putpalette(palette().tobytes())
    file = io.BytesIO()
    # Runs are all that this image has to find: half the size of the default, at equal speed.
    image.save(file, "PNG", compress_level=1, compress_type=zlib.Z_RLE)
    return file.getvalue()


def map_indices(
    masks: UInt8Array, geometry: Int32Array, max_pixels: int
) -> tuple[Int64Array, Int64Array]:
    """Return which map row each pixel row reads (height,), and which column (width,)."""
    height, width, fitted_height, fitted_width = (int(length) for length in geometry)
    side = max(fitted_height, fitted_width)  # the longer side fills the network's input
    stride = side // max(1, len(masks))
    covered = tuple(stride * cells for cells in masks.shape)
    if min(geometry) < 1 or height * width > max_pixels or covered != (side, side):
        raise InputError(
            f"geometry must be what pem_preprocess answers for an image of at most {max_pixels:,} "
            f"pixels, got {geometry.tolist()} with masks of {masks.shape}; send that answer"
        )
    return read_by(height, fitted_height, stride), read_by(width, fitted_width, stride)


def read_by(length: int, fitted: int, stride: int) -> Int64Array:
    """Return the map's index for each of `length` pixels, by pixel centres.

    Pixel i reads floor((i + 0.5) * fitted / length / stride), in integers so that it is exact.
    """
    return (2 * np.arange(length) + 1) * fitted // (2 * length * stride)


def palette() -> UInt8Array:
    """Return (256, 3) RGB: black for 0, then a colour for each class id, at index id + 1.

    Each channel walks through 48..255 in steps of its own, so that neighbouring classes differ
    clearly. Clients draw with the same formula.
    """
    class_ids = np.arange(255)[:, None]
    colours = np.zeros((256, 3), np.uint8)
    colours[1:] = 48 + (class_ids * (148, 113, 183) + (204, 71, 22)) % 208
    return colours
