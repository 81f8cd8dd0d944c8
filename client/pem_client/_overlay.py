"""Drawing detections on their image: a tint, an outline and a name for each segment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ._errors import ImageError
from .palette import class_colour
from .table import short_label

if TYPE_CHECKING:  # the result draws itself with this module
    from ._result import Detection

_SEARCH_SIDE = 160  # pixels a side, enough to find the middle of a segment

_Box = tuple[float, float, float, float]


def draw_overlay(image: Image.Image, detections: Sequence[Detection]) -> Image.Image:
    """The RGB image with every segment marked; where masks overlap the best score is on top.

    Raises `ImageError` if a mask has another size than the image.
    """
    ranked = sorted(detections, key=lambda found: found.conf)
    owner = _owner_map(ranked, (image.height, image.width))
    pixels = _tinted(np.asarray(image), owner, ranked)
    _outline(pixels, owner, line=max(1, round(min(image.size) / 400)))
    overlay = Image.fromarray(pixels)
    _write_names(overlay, ranked, owner)
    return overlay


def _owner_map(ranked: Sequence[Detection], shape: tuple[int, int]) -> NDArray[np.int16]:
    """(H, W): which of the detections a pixel belongs to, -1 for none; later ones win."""
    owner = np.full(shape, -1, dtype=np.int16)
    for index, found in enumerate(ranked):
        if found.mask.shape != shape:
            raise ImageError(
                f"the image must be the one that was segmented: its size (H, W) is {shape}, "
                f"that of the masks {found.mask.shape}"
            )
        owner[found.mask] = index
    return owner


def _tinted(
    pixels: NDArray[np.uint8], owner: NDArray[np.int16], ranked: Sequence[Detection]
) -> NDArray[np.uint8]:
    """(H, W, 3): half the image and half the class colour where a segment is."""
    # The last row stands for no owner: index -1 finds it.
    colours = np.array([*(class_colour(found.cls_id) for found in ranked), (0, 0, 0)], np.uint8)
    return np.where(owner[..., None] >= 0, pixels // 2 + (colours // 2)[owner], pixels)


def _outline(pixels: NDArray[np.uint8], owner: NDArray[np.int16], line: int) -> None:
    """Draw a light and a dark line, `line` pixels wide each, where the owner changes.

    Two, because one of them shows on any image; half transparent, because a border of many
    small pieces would hide the pieces.
    """
    before, after = np.zeros((2, *owner.shape), dtype=np.bool_)
    for step in range(1, line + 1):
        along_rows = owner[:, :-step] != owner[:, step:]
        along_columns = owner[:-step] != owner[step:]
        before[:, :-step] |= along_rows
        after[:, step:] |= along_rows
        before[:-step] |= along_columns
        after[step:] |= along_columns
    pixels[after] //= 2
    pixels[before] = pixels[before] // 2 + 127


def _write_names(
    overlay: Image.Image, ranked: Sequence[Detection], owner: NDArray[np.int16]
) -> None:
    """Name each segment in its middle, best score first; a name that finds no room is left out."""
    draw = ImageDraw.Draw(overlay)
    font_size = max(11, min(overlay.size) // 34)
    draw.font = ImageFont.load_default(font_size)
    stride = -(-max(owner.shape) // _SEARCH_SIDE)
    small = owner[::stride, ::stride]
    taken: list[_Box] = []
    for index, found in reversed(list(enumerate(ranked))):
        middle = _middle(small == index)
        if middle is None:
            continue
        text = f"{short_label(found.label)} {found.conf:.2f}"
        size = (draw.textlength(text) + 0.7 * font_size, 1.5 * font_size)
        for box in _places(middle[0] * stride, middle[1] * stride, size, overlay.size):
            left, top, right, bottom = (round(edge) for edge in box)
            on_it = (owner[top:bottom, left:right] == index).any()
            if on_it and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                _write_name(draw, text, box, class_colour(found.cls_id))
                break


def _middle(segment: NDArray[np.bool_]) -> tuple[int, int] | None:
    """(x, y) of a pixel that is farthest from the segment's border; None if it has no pixel.

    The segment is peeled until nothing is left; a centre of mass may lie outside of it.
    """
    core = np.pad(segment, 1)
    peeled = core
    while peeled.any():
        core, peeled = peeled, peeled.copy()
        for axis in (0, 1):
            for step in (-1, 1):
                peeled &= np.roll(core, step, axis)
    rows, columns = np.nonzero(core[1:-1, 1:-1])
    if not rows.size:
        return None
    nearest = np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2)
    return int(columns[nearest]), int(rows[nearest])


def _places(x: int, y: int, size: tuple[float, float], image: tuple[int, int]) -> Iterator[_Box]:
    """Where a name may stand, inside the image: on its middle, else just below or above."""
    width, height = size
    for shift in (0, 0.6, -0.6, 1.2, -1.2):
        left = max(min(x - width / 2, image[0] - width - 1), 0)
        top = max(min(y + (shift - 0.5) * height, image[1] - height - 1), 0)
        yield left, top, left + width, top + height


def _overlap(a: _Box, b: _Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _write_name(
    draw: ImageDraw.ImageDraw, text: str, box: _Box, colour: tuple[int, int, int]
) -> None:
    """Black or white text, whichever the class colour shows better, on a field of that colour."""
    light = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] > 140
    ink = (0, 0, 0) if light else (255, 255, 255)
    height = box[3] - box[1]
    draw.rounded_rectangle(
        box, radius=height / 4, fill=colour, outline=ink, width=max(1, round(height / 20))
    )
    draw.text(((box[0] + box[2]) / 2, (box[1] + box[3]) / 2), text, fill=ink, anchor="mm")
