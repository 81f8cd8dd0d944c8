"""What headers say, and what is refused by them: each format, bounded work, no decoding."""

import io
import struct

import pytest
from PIL import Image

from pem_server.image_header import (
    MAX_PIECES,
    ImageHeader,
    LimitError,
    Limits,
    png_without_metadata,
    read_header,
)

LIMITS = Limits(max_bytes=20 * 2**20, max_pixels=64 * 2**20)


def encoded(mode: str = "RGB", size: tuple[int, int] = (40, 30), **options: object) -> bytes:
    stream = io.BytesIO()
    Image.new(mode, size).save(stream, **options)  # type: ignore[arg-type]
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP"])
@pytest.mark.parametrize("view", [bytes, memoryview])
def test_format_and_size_are_read(kind: str, view: type) -> None:
    header = read_header(view(encoded(format=kind)), LIMITS)
    assert (header.format, header.width, header.height) == (kind, 40, 30)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (encoded("RGBA", format="PNG"), {"has_alpha": True, "channels": 4}),
        (encoded("L", format="PNG", transparency=3), {"has_alpha": True, "channels": 1}),
        (encoded("I;16", format="PNG"), {"bits": 16, "channels": 1}),
        (encoded("RGBA", format="WEBP", lossless=True), {"is_lossless": True, "has_alpha": True}),
        (encoded(format="WEBP"), {"is_lossless": False, "has_alpha": False}),
        (encoded(format="JPEG"), {"scans": 1, "is_cut": False}),
        (encoded(format="JPEG")[:-2], {"is_cut": True}),
        (encoded("CMYK", format="JPEG"), {"channels": 4}),
    ],
)
def test_what_makes_decoding_dear_is_read(data: bytes, expected: dict[str, object]) -> None:
    header = read_header(data, LIMITS)
    assert {name: getattr(header, name) for name in expected} == expected


def test_the_scans_of_a_progressive_jpeg_are_counted() -> None:
    assert read_header(encoded(format="JPEG", progressive=True), LIMITS).scans > 5


@pytest.mark.parametrize(
    "data", [b"x", b"GIF89a", b"BM", b"RIFF", b"RIFF....WEBPVP8L", b"\xff\xd8"]
)
def test_what_is_no_image_is_left_to_the_decoder(data: bytes) -> None:
    assert read_header(data, LIMITS) == ImageHeader(read_header(data, LIMITS).format)


def fill_bytes(count: int) -> bytes:
    jpeg = encoded(format="JPEG")
    return jpeg[:2] + b"\xff" * count + jpeg[2:]


def empty_chunks(count: int) -> bytes:
    png = encoded(format="PNG")
    return png[:33] + struct.pack(">I4sI", 0, b"abCd", 0) * count + png[33:]


def empty_segments(count: int) -> bytes:
    jpeg = encoded(format="JPEG")
    return jpeg[:2] + b"\xff\xef\x00\x02" * count + jpeg[2:]


def escaped_fill(count: int) -> bytes:
    jpeg = encoded(format="JPEG")
    return jpeg[:2] + b"\xff\x00" * count + jpeg[2:]


@pytest.mark.parametrize("make", [fill_bytes, empty_chunks, empty_segments, escaped_fill])
def test_what_the_decoder_would_read_piece_by_piece_is_bounded(make) -> None:
    data = make(MAX_PIECES + 1)
    with pytest.raises(LimitError, match=f"{MAX_PIECES:,}"):
        read_header(data, LIMITS)
    read_header(make(1_000), LIMITS)


def test_only_what_decides_about_pixels_stays_of_a_png() -> None:
    plain = encoded(format="PNG")
    assert png_without_metadata(plain) is plain
    assert png_without_metadata(empty_chunks(5)) == plain
    cut = plain[:-20]
    assert png_without_metadata(cut) is cut
