"""The steps around the network as one writes them with Pillow and NumPy; the peers share them.

The JSON that comes out is that of the project's own server, so that answers can be compared.
"""

import base64
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

SIZE = 640
PIXEL_MEAN = (124, 116, 104)  # what the network subtracts: padding becomes zero
THRESHOLD = 0.5

Geometry = tuple[int, int, int, int]  # height, width, fitted height, fitted width


def read_image(data: bytes) -> tuple[NDArray[np.uint8], Geometry]:
    """Decode an image and fit it into (640, 640, 3) RGB at the top left."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    scale = SIZE / max(image.size)
    width, height = round(image.width * scale), round(image.height * scale)
    square = Image.new("RGB", (SIZE, SIZE), PIXEL_MEAN)
    square.paste(image.resize((width, height), Image.Resampling.BILINEAR), (0, 0))
    return np.asarray(square), (image.height, image.width, height, width)


def detections(
    class_ids: NDArray[np.integer[Any]],
    scores: NDArray[np.floating[Any]],
    masks: NDArray[np.integer[Any]],
    geometry: Geometry,
    labels: list[str],
) -> dict[str, Any]:
    """The answer for one image.

    `class_ids` (Q,), `scores` (Q,), `masks` (640, 640) of query indices.
    """
    height, width, fitted_height, fitted_width = geometry
    seen = masks[:fitted_height, :fitted_width]
    found = []
    for query in np.argsort(-scores):
        mask = seen == query
        if scores[query] <= THRESHOLD or not mask.any():
            continue
        enlarged = Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST)
        found.append(
            {
                "bbox": list(enlarged.getbbox() or (0, 0, 0, 0)),
                "conf": float(scores[query]),
                "cls_id": int(class_ids[query]),
                "label": labels[class_ids[query]],
                "mask": base64.b64encode(as_png(enlarged)).decode(),
            }
        )
    return {"detections": found, "latency": {}}


def as_png(mask: Image.Image) -> bytes:
    """A mask as a PNG of 1 bit a pixel, with the fast compression."""
    file = io.BytesIO()
    mask.save(file, "PNG", compress_level=1)
    return file.getvalue()
