"""From the network's index map to the detections of one image, as JSON.

Letters: Q queries, S side of the (S, S) index map. The only arrays of the image's size are the
lines of each mask's PNG; no (Q, S, S) array exists.
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

from pem_server.step_inputs import (
    check_class_ids,
    check_threshold,
    for_each_image,
    map_indices,
    thresholds_of,
)

UInt8Array = npt.NDArray[np.uint8]
Int32Array = npt.NDArray[np.int32]
Int64Array = npt.NDArray[np.int64]
Float32Array = npt.NDArray[np.float32]

FILTER_NONE, FILTER_UP = 0, 2  # PNG's filters of a line: as it is; less the line above


class Detection(TypedDict):
    """One segment, in pixels of the original image."""

    bbox: list[int]  # x1, y1, x2, y2; the last two exclusive
    conf: float
    cls_id: int
    label: str
    mask: str  # base64 of a 1-bit PNG of the whole original image


@dataclass(frozen=True)
class View:
    """Which rows and columns of the map an image of height x width shows.

    R counts those rows: a small image skips some, a large one repeats them.
    """

    height: int
    width: int
    rows: Int64Array  # (R,) rows of the map, ascending
    top: Int64Array  # (R + 1,) first pixel row of each shown map row, then the height
    columns: Int64Array  # (width,) column of the map that each pixel column shows


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
    thresholds = thresholds_of(threshold, len(scores))

    def detect_one(n: int) -> list[Detection]:
        view = view_of(masks[n], geometry[n], max_pixels)
        return find_detections(class_ids[n], scores[n], masks[n], view, thresholds[n], labels)

    return for_each_image(len(scores), detect_one)


def view_of(masks: UInt8Array, geometry: Int32Array, max_pixels: int) -> View:
    """Return how the image of `geometry` (4,) shows the map (S, S); InputError as `map_indices`."""
    rows, columns = map_indices(masks, geometry, max_pixels)
    shown, starts = np.unique(rows, return_index=True)
    return View(len(rows), len(columns), shown, np.append(starts, len(rows)), columns)


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
    InputError for a threshold out of 0..1 and class ids without a label.
    """
    check_threshold(threshold)
    check_class_ids(class_ids, highest=len(labels) - 1)
    shown = take(take(masks, view.rows, axis=0), view.columns, axis=1)  # (R, width)
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


def take(cells: UInt8Array, indices: Int64Array, axis: int) -> UInt8Array:
    """Return these rows (axis 0) or columns (1) of a map; a view where they are 0, 1, 2, ..."""
    count = len(indices)
    if not np.array_equal(indices, np.arange(count)):
        return cells.take(indices, axis=axis)
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

    Three to five times as fast as Pillow: pixel rows that show the same map row are equal, so only
    the first of them holds its bits; the others are FILTER_UP and zeros.
    """
    lines = np.zeros((view.height, 1 + packed.shape[1]), np.uint8)
    lines[:, 0] = FILTER_UP
    lines[view.top[:-1], 0] = FILTER_NONE
    lines[view.top[:-1], 1:] = packed
    deflate = zlib.compressobj(level=1, strategy=zlib.Z_RLE)  # finds runs, all that a mask has
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

    pem_preprocess ran from `start` to `prepared`, this step from `arrival` to `end`. So `inference`
    is the network and all waiting before and after it.
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
