"""Drawing segments on their image: a tint, an outline and a caption for each."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ._errors import ImageError
from .palette import class_colour

_SEARCH_SIDE = 160  # pixels per side, enough to find the middle of a segment

_Box = tuple[float, float, float, float]
_Color = tuple[int, int, int]


def draw_overlay(
    image: Image.Image,
    masks: Sequence[NDArray[np.bool_]],
    class_ids: Sequence[int],
    captions: Sequence[str],
) -> Image.Image:
    """The RGB image with every segment marked; where masks (H, W) overlap the first is on top.

    Raises `ImageError` if a mask has another size than the image.
    """
    owner = _owner_map(masks, (image.height, image.width))
    colors = [class_colour(class_id) for class_id in class_ids]
    pixels = _tinted(np.asarray(image), owner, colors)
    _outline(pixels, owner, line=max(1, round(min(image.size) / 400)))
    overlay = Image.fromarray(pixels)
    _write_captions(overlay, captions, colors, owner)
    return overlay


def _owner_map(masks: Sequence[NDArray[np.bool_]], shape: tuple[int, int]) -> NDArray[np.int16]:
    """(H, W): index of the mask that a pixel belongs to, -1 for none; earlier ones win."""
    owner = np.full(shape, -1, dtype=np.int16)
    for index, mask in reversed(list(enumerate(masks))):
        if mask.shape != shape:
            raise ImageError(
                f"the image is not the one that was segmented: its size (H, W) is {shape}, "
                f"that of the masks {mask.shape}"
            )
        owner[mask] = index
    return owner


def _tinted(
    pixels: NDArray[np.uint8], owner: NDArray[np.int16], colors: Sequence[_Color]
) -> NDArray[np.uint8]:
    """(H, W, 3): half image, half class color inside segments."""
    table = np.array([*colors, (0, 0, 0)], np.uint8)  # index -1, no owner, is the last row
    return np.where(owner[..., None] >= 0, pixels // 2 + (table // 2)[owner], pixels)


def _outline(pixels: NDArray[np.uint8], owner: NDArray[np.int16], line: int) -> None:
    """Draw a light and a dark line, `line` pixels wide each, where the owner changes.

    Two, because one of them is visible on any image; half transparent, so that borders do not
    hide a segment of many small pieces.
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


def _write_captions(
    overlay: Image.Image,
    captions: Sequence[str],
    colors: Sequence[_Color],
    owner: NDArray[np.int16],
) -> None:
    """Write each caption in the middle of its segment, in order; skip those without room."""
    draw = ImageDraw.Draw(overlay)
    font_size = max(11, min(overlay.size) // 34)
    draw.font = ImageFont.load_default(font_size)
    stride = -(-max(owner.shape) // _SEARCH_SIDE)
    small = owner[::stride, ::stride]
    used: list[_Box] = []
    for index, (caption, color) in enumerate(zip(captions, colors, strict=True)):
        middle = _middle(small == index)
        if middle is None:
            continue
        size = (draw.textlength(caption) + 0.7 * font_size, 1.5 * font_size)
        for box in _positions(middle[0] * stride, middle[1] * stride, size, overlay.size):
            left, top, right, bottom = (round(edge) for edge in box)
            on_segment = (owner[top:bottom, left:right] == index).any()
            if on_segment and not any(_overlap(box, other) for other in used):
                used.append(box)
                _write_caption(draw, caption, box, color)
                break


def _middle(segment: NDArray[np.bool_]) -> tuple[int, int] | None:
    """(x, y) of a pixel that is farthest from the segment's border; None if it has no pixel.

    It erodes the segment until nothing is left; a center of mass may be outside of it.
    """
    core = np.pad(segment, 1)
    eroded = core
    while eroded.any():
        core, eroded = eroded, eroded.copy()
        for axis in (0, 1):
            for step in (-1, 1):
                eroded &= np.roll(core, step, axis)
    rows, columns = np.nonzero(core[1:-1, 1:-1])
    if not rows.size:
        return None
    nearest = np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2)
    return int(columns[nearest]), int(rows[nearest])


def _positions(x: int, y: int, size: tuple[float, float], image: tuple[int, int]) -> Iterator[_Box]:
    """Boxes for a caption, inside the image: on the middle, else just below or above."""
    width, height = size
    for shift in (0, 0.6, -0.6, 1.2, -1.2):
        left = max(min(x - width / 2, image[0] - width - 1), 0)
        top = max(min(y + (shift - 0.5) * height, image[1] - height - 1), 0)
        yield left, top, left + width, top + height


def _overlap(a: _Box, b: _Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _write_caption(draw: ImageDraw.ImageDraw, text: str, box: _Box, color: _Color) -> None:
    """Black or white text, whichever contrasts with the class color, on a field of that color."""
    light = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2] > 140
    ink = (0, 0, 0) if light else (255, 255, 255)
    height = box[3] - box[1]
    draw.rounded_rectangle(
        box, radius=height / 4, fill=color, outline=ink, width=max(1, round(height / 20))
    )
    draw.text(((box[0] + box[2]) / 2, (box[1] + box[3]) / 2), text, fill=ink, anchor="mm")
