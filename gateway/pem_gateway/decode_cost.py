"""How long pem_preprocess will need to decode an image, estimated from the image's header.

Fitted to measurements of `preprocessing.prepare` on a core of a 2.x GHz Xeon, where a photograph of
640x480 (83 kB) takes 3.5 ms. Estimate and truth, in seconds:

    photograph of 640x480          0.003  0.0035     PNG 8192x8192 RGB          1.0   0.80
    photograph of 4000x3000        0.034  0.023      PNG 8192x8192 RGBA         1.9   1.30
    JPEG 8192x8192, 100 scans      4.3    4.1        PNG 8192x8192 RGBA, 16 bit 3.2   1.85
    PNG photograph 4000x3000       0.31   0.27       WebP 16383x4096 lossy      1.1   1.06
    BMP, 18 MB of runs             3.6    1.4 - 2.9  WebP 16383x4096 lossless   1.6   1.1 - 1.6

JPEGs are decoded at a half to an eighth, so that their pixels count little.
"""

from collections.abc import Sequence

from grpc import StatusCode

from pem_server.image_header import Encoded, ImageError, ImageHeader, Limits, read_header
from pem_server.step_inputs import for_each_image

from .refusal import Refusal

IMAGE_S = 0.0015
CUT_TRIES = 3  # without an end marker a JPEG is decoded up to three times


def images_seconds(images: Sequence[Encoded], limits: Limits) -> float:
    """Seconds for the images of a request. Raises Refusal with pem_preprocess's own sentence."""
    try:
        return sum(
            for_each_image(
                len(images),
                lambda n: decode_seconds(read_header(images[n], limits), len(images[n])),
            )
        )
    except ImageError as error:
        raise Refusal(StatusCode.INVALID_ARGUMENT, error.outcome, str(error)) from None


def decode_seconds(header: ImageHeader, size: int) -> float:
    """Seconds of one processor for an image of `size` bytes."""
    seconds = IMAGE_S + header.pieces * 0.5e-6
    if header.format == "JPEG":
        return seconds + _jpeg(header, size)
    if header.format == "PNG":
        return seconds + _png(header, size)
    if header.format == "WEBP":
        by_pixel, by_byte = (24e-9, 5e-9) if header.is_lossless else (16e-9, 40e-9)
        return seconds + header.pixels * by_pixel + size * by_byte
    if header.format == "BMP":
        return seconds + header.pixels * 7e-9 + (size * 200e-9 if header.is_run_length else 0.0)
    return seconds  # refused as soon as it is looked at


def _jpeg(header: ImageHeader, size: int) -> float:
    seconds = header.pixels * 2e-9 + size * 8e-9
    if header.scans > 1:  # each scan passes over all the coefficients again
        seconds += header.pixels * header.scans * 0.65e-9 + size * 12e-9
    return seconds * (CUT_TRIES if header.is_cut else 1)


def _png(header: ImageHeader, size: int) -> float:
    unpacked = header.pixels * header.channels * header.bits / 8
    seconds = unpacked * 5e-9 + min(size, unpacked) * 20e-9
    if header.has_alpha:
        seconds += header.pixels * 8e-9
    if header.channels == 1:  # of 16 bits to 8, of a palette to colors
        seconds += header.pixels * 6e-9
    return seconds * (1.5 if header.is_interlaced else 1)
