"""From the network's index map to the detections of one image, as JSON.

Letters: Q queries, S side of the (S, S) index map. Nothing of the image's size is made but the
lines of each mask's PNG, and no (Q, S, S) array at all.
"""

import base64
import json
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import numpy.typing as npt

DEFAULT_THRESHOLD = 0.5  # the model card's

UInt8Array = npt.NDArray[np.uint8]
Int32Array = npt.NDArray[np.int32]
Int64Array = npt.NDArray[np.int64]
Float32Array = npt.NDArray[np.float32]

# PNG's filters of a line: as it is, or as the difference to the line above
AS_IT_IS, TO_LINE_ABOVE = 0, 2


class InputError(ValueError):
    """The client sent a value that cannot be used; the text is a sentence for the client."""


class Detection(TypedDict):
    """One found segment, in pixels of the original image."""

    bbox: list[int]  # x1, y1, x2, y2; the last two exclusive
    conf: float
    cls_id: int
    label: str
    mask: str  # base64 of a 1-bit PNG of the whole original image


@dataclass(frozen=True)
class View:
    """How an image of height x width shows the map: which rows, and which column each pixel.

    R counts the rows of the map that the image shows.
    """

    height: int
    width: int
    rows: Int64Array  # (R,) rows of the map, ascending
    top: Int64Array  # (R + 1,) first pixel row of each shown map row, then the height
    columns: Int64Array  # (width,) column of the map that each pixel column reads


def detect(
    class_ids: Int32Array,
    scores: Float32Array,
    masks: UInt8Array,
    geometry: Int32Array,
    threshold: Float32Array | None,
    labels: Sequence[str],
    max_pixels: int,
) -> list[list[Detection]]:
    """Return the detections of each of N images.

    `class_ids` (N, Q), `scores` (N, Q), `masks` (N, S, S), `geometry` (N, 4), `threshold` (N, 1).
    Raises InputError for the first item that cannot be used, naming its place when N > 1.
    """
    thresholds = [DEFAULT_THRESHOLD] * len(scores) if threshold is None else threshold[:, 0]
    found = []
    for index, limit in enumerate(thresholds):
        try:
            check_threshold(limit)
            view = view_of(masks[index], geometry[index], max_pixels)
            found.append(
                find_detections(class_ids[index], scores[index], masks[index], view, limit, labels)
            )
        except InputError as error:
            if len(scores) == 1:
                raise
            place = f"image {index} of {len(scores)} (counted from 0)"
            raise InputError(f"{place}: {error}") from error
    return found


def check_threshold(value: float) -> None:
    """Raise InputError out of 0..1, and for NaN."""
    if not 0 <= value <= 1:
        raise InputError(
            f"threshold must be a number from 0 to 1, got {value:g}; leave it out for "
            f"{DEFAULT_THRESHOLD}"
        )


def view_of(masks: UInt8Array, geometry: Int32Array, max_pixels: int) -> View:
    """Work out how the image of `geometry` (4,) shows the map (S, S).

    InputError for a geometry that no accepted image has.
    """
    height, width, fitted_height, fitted_width = (int(length) for length in geometry)
    side = max(fitted_height, fitted_width)  # the longer side fills the network's input
    stride = side // max(1, len(masks))
    covered = tuple(stride * cells for cells in masks.shape)
    if min(geometry) < 1 or height * width > max_pixels or covered != (side, side):
        raise InputError(
            f"geometry must be what pem_preprocess answers for an image of at most {max_pixels:,} "
            f"pixels, got {geometry.tolist()} with masks of {masks.shape}; send that answer"
        )
    rows, starts = np.unique(read_by(height, fitted_height, stride), return_index=True)
    columns = read_by(width, fitted_width, stride)
    return View(height, width, rows, np.append(starts, height), columns)


def read_by(length: int, fitted: int, stride: int) -> Int64Array:
    """Return the map's index for each of `length` pixels, by pixel centres; ascending.

    Pixel i reads floor((i + 0.5) * fitted / length / stride), in integers so that it is exact.
    """
    return (2 * np.arange(length) + 1) * fitted // (2 * length * stride)


def find_detections(
    class_ids: Int32Array,
    scores: Float32Array,
    masks: UInt8Array,
    view: View,
    threshold: float,
    labels: Sequence[str],
) -> list[Detection]:
    """Return a detection for each query with a score above `threshold` and pixels in the image.

    `class_ids` (Q,), `scores` (Q,), `masks` (S, S) of query indices. Highest score first.
    InputError for class ids without a label.
    """
    if class_ids.min() < 0 or class_ids.max() >= len(labels):
        raise InputError(
            f"class_ids must be from 0 to {len(labels) - 1}, got {class_ids.min()} to "
            f"{class_ids.max()}; send what pem_network answers"
        )
    shown = pick(pick(masks, view.rows, axis=0), view.columns, axis=1)  # (R, width)
    detections = []
    for query in np.argsort(-scores, kind="stable"):
        if not scores[query] > threshold:
            break
        packed = np.packbits(shown == query, axis=1)  # (R, ceil(width / 8))
        if bbox := bounding_box(packed, view):
            detections.append(
                Detection(
                    bbox=bbox,
                    conf=float(scores[query]),
                    cls_id=int(class_ids[query]),
                    label=labels[class_ids[query]],
                    mask=base64.b64encode(mask_png(packed, view)).decode("ascii"),
                )
            )
    return detections


def pick(cells: UInt8Array, places: Int64Array, axis: int) -> UInt8Array:
    """Return these rows (axis 0) or columns (1) of a map; no copy of the first ones, each once."""
    count = len(places)
    if not np.array_equal(places, np.arange(count)):
        return cells.take(places, axis=axis)
    return cells[:count] if axis == 0 else cells[:, :count]


def bounding_box(packed: UInt8Array, view: View) -> list[int]:
    """Return [x1, y1, x2, y2] in pixels of a mask's packed rows; nothing for an empty mask."""
    rows = np.flatnonzero(packed.max(axis=1))
    if not rows.size:
        return []
    columns = np.flatnonzero(np.unpackbits(np.bitwise_or.reduce(packed, axis=0)))
    y1, y2 = view.top[rows[0]], view.top[rows[-1] + 1]
    return [int(edge) for edge in (columns[0], y1, columns[-1] + 1, y2)]


def mask_png(packed: UInt8Array, view: View) -> bytes:
    """Return the 1-bit PNG, height x width, of a mask's shown rows (R, ceil(width / 8)).

    Written by hand, three to five times as fast as Pillow: pixel rows that show the same map row
    are equal, so only the first of them has its bits, the others are a filter type and zeros.
    """
    lines = np.zeros((view.height, 1 + packed.shape[1]), np.uint8)
    lines[:, 0] = TO_LINE_ABOVE
    lines[view.top[:-1], 0] = AS_IT_IS
    lines[view.top[:-1], 1:] = packed
    deflate = zlib.compressobj(level=1, strategy=zlib.Z_RLE)  # runs are all there is to find
    header = struct.pack(">IIBBBBB", view.width, view.height, 1, 0, 0, 0, 0)  # 1 bit, grey
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            _chunk(b"IHDR", header),
            _chunk(b"IDAT", deflate.compress(lines.data) + deflate.flush()),
            _chunk(b"IEND", b""),
        )
    )


def to_json(
    detections: Sequence[Detection], start: float, prepared: float, arrival: float, end: float
) -> bytes:
    """Return the answer for one image, given monotonic times in seconds.

    The image was prepared from `start` to `prepared`, its maps arrived here at `arrival` and were
    read by `end`. So `inference` holds the network and all waiting before and after it.
    """
    latency = {
        "preprocess": prepared - start,
        "inference": arrival - prepared,
        "postprocess": end - arrival,
    }
    answer = {"detections": detections, "latency": latency}
    return json.dumps(answer, allow_nan=False, separators=(",", ":")).encode()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
