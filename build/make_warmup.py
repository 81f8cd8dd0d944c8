"""Write the inputs that the server's models run once before they report ready.

A street drawn by this script: small enough to commit, and similar to clients' images, so that
decoders, kernels and caches are warm for them.
"""

import io
import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from pem_server.checkout import MODEL_REPOSITORY

SIZE = 640  # side of the network's input
HEIGHT, WIDTH = 480, 640  # of the image: its longer side fits without resizing
PADDING = (124, 116, 104)
QUERIES = 100
# RGB, class id and score of what is drawn; the place in this list is the query.
PARTS = (
    ((150, 190, 230), 2, 0.98),  # sky
    ((150, 110, 90), 1, 0.93),  # building
    ((90, 90, 95), 6, 0.95),  # road
    ((170, 30, 35), 20, 0.81),  # car
)


def main() -> None:
    """Write every file and print its path."""
    for path, content in warmup_files().items():
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        print(path)


def warmup_files() -> dict[Path, bytes]:
    """The content of each warmup/ folder of the model repository."""
    queries = draw_street()
    image = paint(queries)
    maps = {
        "class_ids.raw": padded([class_id for _, class_id, _ in PARTS], np.int32),
        "scores.raw": padded([score for _, _, score in PARTS], np.float32),
        "masks.raw": on_square(queries, 0).tobytes(),
        "geometry.raw": np.array([HEIGHT, WIDTH, HEIGHT, WIDTH], np.int32).tobytes(),
    }
    files = {
        "pem_preprocess": {
            "street.jpg.bytes": with_length(encode(image, "JPEG")),
            "street.png.bytes": with_length(encode(image, "PNG")),
        },
        "pem_network": {"fitted_image.raw": on_square(image, PADDING).tobytes()},
        "pem_postprocess": maps,
        "pem_render": maps,
    }
    return {
        MODEL_REPOSITORY / model / "warmup" / name: content
        for model, contents in files.items()
        for name, content in contents.items()
    }


def draw_street() -> npt.NDArray[np.uint8]:
    """Return (HEIGHT, WIDTH) queries: a house under the sky, a car on the road."""
    queries = np.zeros((HEIGHT, WIDTH), np.uint8)
    queries[120:330, 60:400] = 1
    queries[330:] = 2
    queries[290:380, 420:590] = 3
    return queries


def paint(queries: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return (HEIGHT, WIDTH, 3) RGB: the parts' colors, darker towards the right."""
    colors = np.array([color for color, _, _ in PARTS])
    light = np.linspace(1.0, 0.7, WIDTH)[:, None]
    return np.asarray(colors[queries] * light).astype(np.uint8)


def on_square(
    array: npt.NDArray[np.uint8], filling: int | tuple[int, int, int]
) -> npt.NDArray[np.uint8]:
    """Place (HEIGHT, WIDTH, ...) at the top left of a square of the network's size."""
    square = np.empty((SIZE, SIZE, *array.shape[2:]), np.uint8)
    square[:] = filling
    square[:HEIGHT, :WIDTH] = array
    return square


def padded(values: list[int] | list[float], kind: type[np.int32] | type[np.float32]) -> bytes:
    """One value for each query; 0 for those that draw nothing."""
    return np.pad(np.array(values, kind), (0, QUERIES - len(values))).tobytes()


def encode(image: npt.NDArray[np.uint8], kind: str) -> bytes:
    """Return the bytes of an image file."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, kind)
    return file.getvalue()


def with_length(content: bytes) -> bytes:
    """Return the file of one TYPE_STRING element: Triton wants its length in 4 bytes before it."""
    return struct.pack("<I", len(content)) + content


if __name__ == "__main__":
    main()
