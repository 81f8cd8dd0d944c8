"""The program that draws one overlay: `python -m pem_gateway.overlay_worker`.

stdin: the length of the image in 8 bytes, the image, the JSON of its detections. stdout: a PNG.
Its memory and processor time are limited before anything is decoded.
"""

import io
import os
import resource
import sys

from .overlay_process import BAD_IMAGE

MEMORY_BYTES = 1 << 30  # 16 megapixels with 12 regions take half of it
PROCESSOR_S = 15
MOST_PIXELS = 16_000_000
TOO_MANY = (
    f"the overlay of an image of this size with so many regions takes more than {MEMORY_BYTES:,} "
    "bytes; scale the image down, or ask for the detections and draw them with pem_client"
)
FORMATS = ("JPEG", "PNG", "WEBP", "BMP")


def main() -> int:
    """Draw what stdin holds."""
    os.nice(5)  # serving goes first
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (PROCESSOR_S, PROCESSOR_S))
    question = sys.stdin.buffer.read()
    end = 8 + int.from_bytes(question[:8], "little")
    try:
        overlay = draw(question[8:end], question[end:])
    except ValueError as error:
        print(error, file=sys.stderr)
        return BAD_IMAGE
    except MemoryError:
        print(TOO_MANY, file=sys.stderr)
        return BAD_IMAGE
    sys.stdout.buffer.write(overlay)
    return 0


def draw(image: bytes, detections: bytes) -> bytes:
    """The PNG of the overlay. ValueError with a sentence for an image that is too large."""
    from PIL import Image

    from pem_client import Detections

    with Image.open(io.BytesIO(image), formats=FORMATS) as opened:
        if opened.width * opened.height > MOST_PIXELS:
            raise ValueError(
                f"an overlay is drawn on an image of at most {MOST_PIXELS:,} pixels, got "
                f"{opened.width:,} x {opened.height:,}; scale it down, or ask for the detections "
                "and draw them with pem_client"
            )
    png = io.BytesIO()
    Detections.from_json(detections).overlay(image).save(png, "PNG", compress_level=1)
    return png.getvalue()


if __name__ == "__main__":
    sys.exit(main())
