"""From the network's index map to one image of classes: an 8-bit palette PNG.

Letters: Q queries, S side of the (S, S) index map.
"""

import io
import zlib

import numpy as np
import numpy.typing as npt
from PIL import Image

from pem_server.step_inputs import (
    check_class_ids,
    check_threshold,
    for_each_image,
    map_indices,
    thresholds_of,
)

UInt8Array = npt.NDArray[np.uint8]
Int32Array = npt.NDArray[np.int32]
Float32Array = npt.NDArray[np.float32]


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
    thresholds = thresholds_of(threshold, len(scores))
    return for_each_image(
        len(scores),
        lambda n: segmentation_png(
            class_ids[n], scores[n], masks[n], geometry[n], thresholds[n], max_pixels
        ),
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
    check_class_ids(class_ids, highest=254)
    rows, columns = map_indices(masks, geometry, max_pixels)
    values = np.zeros(256, np.uint8)  # of each query index; those without a query stay 0
    values[: len(scores)] = np.where(scores > threshold, class_ids + 1, 0)
    pixels = values[masks].take(rows, axis=0).take(columns, axis=1)  # (height, width)
    image = Image.fromarray(pixels)
    image.putpalette(palette().tobytes())
    file = io.BytesIO()
    # Z_RLE finds runs, all that this image has: half the default's size at equal speed.
    image.save(file, "PNG", compress_level=1, compress_type=zlib.Z_RLE)
    return file.getvalue()


def palette() -> UInt8Array:
    """Return (256, 3) RGB: black for 0, then a color for each class id, at index id + 1.

    Each channel steps through 48..255 by its own stride, so that neighboring classes differ
    clearly. The client draws with the same formula.
    """
    class_ids = np.arange(255)[:, None]
    colors = np.zeros((256, 3), np.uint8)
    colors[1:] = 48 + (class_ids * (148, 113, 183) + (204, 71, 22)) % 208
    return colors
