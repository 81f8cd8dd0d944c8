"""What the header of an image file says of its cost, read without decoding and in bounded time.

The gateway reads it before a request waits, pem_preprocess before it decodes: both refuse with the
same sentence. Anyone can send bytes, so nothing here loops once a byte, and a file that only looks
like one of the formats is left to the decoder's own sentence.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pem_server.step_inputs import InputError

Encoded = bytes | memoryview

MAX_SIDE = 65_535  # JPEG's own limit; longer sides make the resize weights of one row huge
# Ordinary files have about 10 scans. Another one costs 10 bytes to send and 10 ms to decode at 64
# megapixels, so without a limit a 20 MB file would keep this step busy for hours.
MAX_JPEG_SCANS = 100
# Pillow reads what stands before the pixels in Python: each segment, chunk or fill byte costs it
# about half a microsecond to 3. A file of 20 MB in pieces of 4 KB has 5,000.
MAX_PIECES = 10_000

# Markers that start a segment; stuffing (00), fill (FF), TEM, RSTn and SOI do not.
_JPEG_SEGMENT = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")
_FILL, _START_OF_SCAN, _END_OF_IMAGE = 0xFF, 0xDA, 0xD9
_WITHOUT_LENGTH = {0x00, 0x01, *range(0xD0, 0xD9)}
_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOFn: size and components
_PROGRESSIVE = {0xC2, 0xC6, 0xCA, 0xCE}
_PNG = b"\x89PNG\r\n\x1a\n"
# What decides about a PNG's pixels; text, color profiles and the frames of animations do not.
_PNG_PIXELS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"eXIf", b"IEND"}
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by color type


class ImageError(InputError):
    """The client's image cannot be used; the text is a sentence for the client."""

    outcome = "bad_image"  # what the metrics call it


class LimitError(ImageError):
    """The image may be good, but costs more than the limits allow."""

    outcome = "too_large"


@dataclass(frozen=True)
class Limits:
    """What one image may cost before it is decoded."""

    max_bytes: int
    max_pixels: int


@dataclass(frozen=True)
class ImageHeader:
    """What decides about the cost of decoding. `format` is "" where no format is recognized."""

    format: str = ""
    width: int = 0
    height: int = 0
    channels: int = 3
    bits: int = 8  # of one channel
    scans: int = 1  # of a progressive JPEG
    pieces: int = 0  # segments, chunks and fill bytes before and between the pixels
    has_alpha: bool = False
    is_lossless: bool = False  # WebP
    is_run_length: bool = False  # BMP
    is_interlaced: bool = False  # PNG
    is_cut: bool = False  # JPEG without an end marker

    @property
    def pixels(self) -> int:
        """Pixels of the whole image."""
        return self.width * self.height


def read_header(encoded: Encoded, limits: Limits) -> ImageHeader:
    """Return what an encoded image says of itself. Raises ImageError beyond the limits."""
    _check_bytes(encoded, limits)
    for start, read in _READERS.items():
        if encoded[: len(start)] == start:
            header = read(encoded)
            check_size(header.width, header.height, limits)
            return header
    return ImageHeader()


def check_size(width: int, height: int, limits: Limits) -> None:
    """Raise LimitError for too many pixels or too long a side."""
    if width * height > limits.max_pixels or max(width, height) > MAX_SIDE:
        raise LimitError(
            f"image must have at most {limits.max_pixels:,} pixels and {MAX_SIDE:,} a side, "
            f"but its header says {width:,} x {height:,}; scale it down"
        )


def png_without_metadata(encoded: bytes) -> bytes:
    """Return a PNG file without the chunks that do not decide about its pixels.

    Text may be packed to any size; here it is never unpacked.
    """
    if encoded[:8] != _PNG:
        return encoded
    kept, start, dropped = [memoryview(encoded)[:8]], 8, False
    for name, position, end in _png_chunks(encoded):
        if name in _PNG_PIXELS:
            kept.append(memoryview(encoded)[position:end])
        else:
            dropped = True
        start = end
    return b"".join([*kept, memoryview(encoded)[start:]]) if dropped else encoded


def _check_bytes(encoded: Encoded, limits: Limits) -> None:
    if not len(encoded):
        raise ImageError("image must not be empty, but 0 bytes arrived; send the bytes of the file")
    if len(encoded) > limits.max_bytes:
        raise LimitError(
            f"image must have at most {limits.max_bytes:,} bytes, but {len(encoded):,} arrived; "
            "send a smaller or more compressed file"
        )


def _read_jpeg(encoded: Encoded) -> ImageHeader:
    position, pieces = 2, 0
    width = height = channels = 0
    is_progressive = False
    while position + 4 <= len(encoded) and encoded[position] == 0xFF:
        _check_pieces("JPEG", pieces := pieces + 1)
        marker = encoded[position + 1]
        if marker == _FILL:
            position += 1
        elif marker in _WITHOUT_LENGTH:
            position += 2
        elif marker == _END_OF_IMAGE:
            break
        else:
            if marker in _FRAMES and position + 10 <= len(encoded):
                height, width = _big(encoded, position + 5, 2), _big(encoded, position + 7, 2)
                channels, is_progressive = encoded[position + 9], marker in _PROGRESSIVE
            elif marker == _START_OF_SCAN and position + 5 <= len(encoded):
                scans = _count_jpeg_scans(encoded, position)
                # As in libjpeg: others are decoded from their first scan alone.
                if not is_progressive and encoded[position + 4] == channels:
                    scans = 1
                # Real trailers are small; the thumbnails of cameras behind it are the exception.
                tail = bytes(encoded[max(position, len(encoded) - 65_536) :])
                return ImageHeader(
                    "JPEG", width, height, channels, scans=scans, pieces=pieces,
                    is_cut=b"\xff\xd9" not in tail,
                )  # fmt: skip
            position += 2 + max(2, _big(encoded, position + 2, 2))
    return ImageHeader("JPEG", width, height, channels or 3, pieces=pieces)


def _count_jpeg_scans(encoded: Encoded, position: int) -> int:
    """Count the scans of a file's first image, from its first one on. LimitError for too many."""
    scans = segments = 0
    while segment := _JPEG_SEGMENT.search(encoded, position):
        _check_pieces("JPEG", segments := segments + 1)
        marker = encoded[segment.end() - 1]
        if marker == _END_OF_IMAGE:
            break
        scans += marker == _START_OF_SCAN
        if scans > MAX_JPEG_SCANS:
            raise LimitError(
                f"image must be a JPEG of at most {MAX_JPEG_SCANS} scans, but this one has more; "
                "save it again as an ordinary JPEG"
            )
        position = segment.end() + _big(encoded, segment.end(), 2)
    return scans


def _read_png(encoded: Encoded) -> ImageHeader:
    header, pieces, has_alpha = ImageHeader("PNG"), 0, False
    for name, position, _ in _png_chunks(encoded):
        pieces += 1
        if name == b"IHDR":
            fields = encoded[position + 8 : position + 21]
            if len(fields) == 13:
                header = ImageHeader(
                    "PNG", _big(fields, 0, 4), _big(fields, 4, 4),
                    _PNG_CHANNELS.get(fields[9], 4), fields[8], is_interlaced=fields[12] == 1,
                )  # fmt: skip
                has_alpha = fields[9] in (4, 6)
        has_alpha = has_alpha or name == b"tRNS"
    return ImageHeader(
        "PNG", header.width, header.height, header.channels, header.bits, pieces=pieces,
        has_alpha=has_alpha, is_interlaced=header.is_interlaced,
    )  # fmt: skip


def _png_chunks(encoded: Encoded) -> Iterator[tuple[bytes, int, int]]:
    """The name, start and end of each whole chunk. LimitError for too many."""
    position, count = 8, 0
    while position + 12 <= len(encoded):
        _check_pieces("PNG", count := count + 1)
        name = bytes(encoded[position + 4 : position + 8])
        end = position + 12 + _big(encoded, position, 4)
        if end > len(encoded):
            return
        yield name, position, end
        if name == b"IEND":
            return
        position = end


def _read_webp(encoded: Encoded) -> ImageHeader:
    kind = bytes(encoded[12:16])
    if bytes(encoded[8:12]) != b"WEBP" or (len(encoded) < 30 and kind != b"VP8L"):
        return ImageHeader()
    if kind == b"VP8L" and len(encoded) >= 25:
        bits = _little(encoded, 21, 4)
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        return ImageHeader(
            "WEBP", width, height, 4, has_alpha=bool(bits >> 28 & 1), is_lossless=True
        )
    if kind == b"VP8X":
        width, height = _little(encoded, 24, 3) + 1, _little(encoded, 27, 3) + 1
        # Alpha or the metadata say nothing of how the pixels are packed: the dearer way.
        return ImageHeader(
            "WEBP", width, height, 4, has_alpha=bool(encoded[20] & 0x10), is_lossless=True
        )
    width, height = _little(encoded, 26, 2) & 0x3FFF, _little(encoded, 28, 2) & 0x3FFF
    return ImageHeader("WEBP", width, height)


def _read_bmp(encoded: Encoded) -> ImageHeader:
    if len(encoded) < 34:
        return ImageHeader()
    size = _little(encoded, 14, 4)
    if size == 12:  # the first version
        width, height, bits, packing = (
            _little(encoded, 18, 2), _little(encoded, 20, 2), _little(encoded, 24, 2), 0,
        )  # fmt: skip
    else:
        width, height = _little(encoded, 18, 4), _little(encoded, 22, 4)
        height = 2**32 - height if height >= 2**31 else height  # negative: from the top
        bits, packing = _little(encoded, 28, 2), _little(encoded, 30, 4)
    return ImageHeader("BMP", width, height, max(1, bits // 8), is_run_length=packing in (1, 2))


def _check_pieces(kind: str, pieces: int) -> None:
    if pieces > MAX_PIECES:
        raise LimitError(
            f"image must be a {kind} of at most {MAX_PIECES:,} segments, chunks and fill bytes, "
            "but this one has more; save it again with another program"
        )


def _big(encoded: Encoded, position: int, length: int) -> int:
    return int.from_bytes(encoded[position : position + length], "big")


def _little(encoded: Encoded, position: int, length: int) -> int:
    return int.from_bytes(encoded[position : position + length], "little")


_READERS: dict[bytes, Callable[[Encoded], ImageHeader]] = {
    b"\xff\xd8": _read_jpeg,
    _PNG: _read_png,
    b"RIFF": _read_webp,
    b"BM": _read_bmp,
}
