"""What the Python steps check of a request's tensors, and how they refuse one.

Letters: N images, Q queries, S side of the network's (S, S) index map.
"""

from collections.abc import Callable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

DEFAULT_THRESHOLD = 0.5  # the model card's

Result = TypeVar("Result")


class InputError(ValueError):
    """The client sent a value that cannot be used; the text is a sentence for the client."""


def for_each_image(count: int, compute: Callable[[int], Result]) -> list[Result]:
    """Return `compute` of 0 to count - 1.

    An InputError names the image it is about where there are several.
    """
    results = []
    for index in range(count):
        try:
            results.append(compute(index))
        except InputError as error:
            if count == 1:
                raise
            place = f"image {index} of {count} (counted from 0)"
            raise type(error)(f"{place}: {error}") from error
    return results


def thresholds_of(threshold: NDArray[np.float32] | None, count: int) -> list[float]:
    """Return the threshold of each image, from the optional tensor (N, 1)."""
    return [DEFAULT_THRESHOLD] * count if threshold is None else threshold[:, 0].tolist()


def check_threshold(value: float) -> None:
    """Raise InputError out of 0..1, and for NaN."""
    if not 0 <= value <= 1:
        raise InputError(
            f"threshold must be a number from 0 to 1, got {value:g}; omit it for "
            f"{DEFAULT_THRESHOLD}"
        )


def check_class_ids(class_ids: NDArray[np.int32], highest: int) -> None:
    """Raise InputError for class ids (Q,) out of 0..highest."""
    if class_ids.min() < 0 or class_ids.max() > highest:
        raise InputError(
            f"class_ids must be from 0 to {highest}, got {class_ids.min()} to {class_ids.max()}; "
            "pass `class_ids` from pem_network unchanged"
        )


def map_indices(
    masks: NDArray[np.uint8], geometry: NDArray[np.int32], max_pixels: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return which map row each pixel row shows, (height,), and which column, (width,).

    `masks` (S, S), `geometry` (4,). InputError for a geometry that no accepted image has.
    """
    height, width, fitted_height, fitted_width = (int(length) for length in geometry)
    side = max(fitted_height, fitted_width)  # the longer side fills the network's input
    stride = side // max(1, len(masks))
    covered = tuple(stride * cells for cells in masks.shape)
    if min(geometry) < 1 or height * width > max_pixels or covered != (side, side):
        raise InputError(
            f"geometry {geometry.tolist()} fits no image of at most {max_pixels:,} pixels with "
            f"masks of {masks.shape}; pass `geometry` from pem_preprocess unchanged"
        )
    return _cells(height, fitted_height, stride), _cells(width, fitted_width, stride)


def _cells(length: int, fitted: int, stride: int) -> NDArray[np.int64]:
    """Return the map's index for each of `length` pixels, by pixel centers; ascending.

    Pixel i shows floor((i + 0.5) * fitted / length / stride), in integers so that it is exact.
    """
    return (2 * np.arange(length) + 1) * fitted // (2 * length * stride)
