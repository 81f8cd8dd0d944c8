"""Every kind of image file becomes the network's input or an error of one line."""

import io
import random
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image, ImageOps

RED, WHITE = (255, 0, 0), (255, 255, 255)
KINDS = ("JPEG", "PNG", "WEBP", "BMP")


@pytest.fixture
def preprocessing(load_model):
    return load_model("pem_preprocess", "preprocessing")


@pytest.fixture
def limits(preprocessing):
    return preprocessing.Limits(max_bytes=100_000, max_pixels=1_000_000)


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def noise(width: int = 37, height: int = 23) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8))


def png_header(width: int, height: int) -> bytes:
    """A PNG that ends after saying its size, 8-bit RGB, where its pixels would start."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    checksum = struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n\0\0\0\x0d" + header + checksum + b"\0\0\0\x09IDAT"


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def row(mode: str, *values: int | tuple[int, ...]) -> Image.Image:
    """An image of these pixels; those of mode P are red and blue."""
    image = Image.new(mode, (len(values), 1))
    if mode == "P":
        image.putpalette([*RED, 0, 0, 255])
    image.putdata(values)
    return image


@pytest.mark.parametrize(
    ("image", "kind", "options", "pixels"),
    [
        (row("RGB", RED), "PNG", {}, [RED]),
        (row("RGB", RED), "BMP", {}, [RED]),
        (row("RGB", RED), "WEBP", {"lossless": True}, [RED]),
        (row("RGB", RED), "PNG", {"transparency": RED}, [WHITE]),
        (row("P", 0, 1), "PNG", {}, [RED, (0, 0, 255)]),
        (row("P", 0, 1), "PNG", {"transparency": 1}, [RED, WHITE]),
        (row("L", 77), "PNG", {}, [77]),
        (row("1", 1), "BMP", {}, [WHITE]),
        (row("I;16", 0, 256, 257, 65535), "PNG", {}, [0, 1, 1, 255]),
        (row("RGBA", (*RED, 255), (0, 0, 0, 0), (0, 0, 0, 128)), "PNG", {}, [RED, WHITE, 127]),
        (row("LA", (0, 255), (0, 0)), "PNG", {}, [0, WHITE]),
    ],
)
def test_every_kind_of_pixel_becomes_rgb(preprocessing, limits, image, kind, options, pixels):
    rgb, _ = preprocessing.decode(encoded(image, kind, **options), limits)
    assert rgb.mode == "RGB"
    expected = np.stack([np.broadcast_to(pixel, 3) for pixel in pixels])
    assert np.array_equal(np.asarray(rgb)[0], expected)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpegs_of_every_color_space_become_rgb(preprocessing, limits, mode, progressive):
    gray = Image.new("RGB", (8, 8), (200, 200, 200)).convert(mode)
    image, _ = preprocessing.decode(encoded(gray, "JPEG", progressive=progressive), limits)
    assert np.abs(np.asarray(image, int) - 200).max() <= 2


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "MPO"])
def test_animations_give_their_first_frame(preprocessing, limits, kind):
    data = encoded(row("RGB", RED), kind, save_all=True, append_images=[row("RGB", (0, 0, 255))])
    assert preprocessing.decode(data, limits)[0].getpixel((0, 0)) == pytest.approx(RED, abs=2)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_exif_orientation_is_undone(preprocessing, limits, kind, orientation):
    data = encoded(noise(48, 32), kind, exif=turned(orientation))
    image, _ = preprocessing.decode(data, limits)
    assert image.size == ((48, 32) if orientation < 5 else (32, 48))
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert (np.asarray(image) == np.asarray(upright)).all()


@pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0MM\0*", b"\xff" * 50])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_damaged_exif_is_no_reason_to_refuse_a_good_image(preprocessing, limits, kind, exif):
    assert preprocessing.decode(encoded(noise(), kind, exif=exif), limits)[1] == (23, 37)


@pytest.mark.parametrize(
    ("data", "part"),
    [
        (b"", "0 bytes"),
        (b"a street with cars", "18 bytes"),
        (encoded(noise(), "GIF"), "JPEG, PNG, WebP or BMP"),
        *((encoded(noise(), kind)[:600], "cannot be decoded") for kind in KINDS),
        (encoded(noise(300, 200), "JPEG")[:20_000], "cannot be decoded"),  # of a reduced size
        (encoded(noise(), "BMP").replace(b"\x25\0\0\0", bytes(4), 1), "cannot be decoded"),
        (png_header(0, 5), "cannot be decoded"),
        (png_header(30_000, 30_000), "30,000 x 30,000"),
        (png_header(1001, 1000), "1,000,000 pixels"),
        (png_header(65_536, 1), "65,536 x 1"),
        (b"\xff" * 100_001, "100,001"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_usable_image_is_refused_in_one_line(preprocessing, limits, data, part):
    with pytest.raises(preprocessing.ImageError) as caught:
        preprocessing.decode(data, limits, 64)
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_jpeg_with_endless_scans_is_refused(preprocessing, limits):
    data = encoded(noise(), "JPEG", progressive=True)
    last_scan = data[data.rindex(b"\xff\xda") : -2]
    with pytest.raises(preprocessing.LimitError, match="100 scans"):
        preprocessing.decode(data[:-2] + last_scan * 100 + data[-2:], limits)
    assert preprocessing.decode(data[:-2] + last_scan * 10 + data[-2:], limits)
    markers = b"\xff\xda\0\x02" * 200  # as in a thumbnail, and after the image: no scans
    data = encoded(noise(), "JPEG", comment=markers) + b"\0\0" + markers
    assert preprocessing.decode(data, limits)[1] == (23, 37)


def test_running_out_of_memory_is_not_blamed_on_the_client(preprocessing, limits, monkeypatch):
    monkeypatch.setattr(Image, "open", Mock(side_effect=MemoryError))
    with pytest.raises(MemoryError):
        preprocessing.decode(encoded(noise(), "PNG"), limits)


def damaged_copies(data: bytes, count: int) -> Iterator[bytes]:
    """Copies cut short, with a piece missing, or with changed bytes, most of them in the header."""
    dice = random.Random(len(data))
    for _ in range(count):
        copy = bytearray(data)
        place, kind = dice.randrange(len(copy)), dice.random()
        if kind < 0.25:
            del copy[place:]
        elif kind < 0.35:
            del copy[place : place + dice.randrange(1, 20)]
        else:
            end = len(copy) if kind < 0.6 else min(len(copy), 120)
            for _ in range(dice.randrange(1, 5)):
                copy[dice.randrange(end)] = dice.choice([0, 127, 128, 255, dice.randrange(256)])
        yield bytes(copy)


ANIMATED = {"save_all": True, "append_images": [ImageOps.invert(noise())]}


@pytest.mark.parametrize(
    "data",
    [
        *(encoded(noise(), kind, exif=turned(6)) for kind in KINDS),
        *(encoded(noise(), kind, **ANIMATED) for kind in ("MPO", "PNG", "WEBP")),
        encoded(noise(), "JPEG", progressive=True),
        encoded(noise().convert("CMYK"), "JPEG"),
        encoded(noise().convert("P"), "PNG", transparency=3),
        encoded(row("I;16", *range(0, 65536, 999)), "PNG"),
        encoded(noise().convert("RGBA"), "WEBP", lossless=True),
        encoded(noise().convert("P"), "BMP"),
    ],
    ids=lambda data: f"{data[:4]!r} {len(data)} bytes",
)
def test_a_damaged_file_is_decoded_or_refused(preprocessing, limits, data):
    assert preprocessing.prepare([data], limits, 64)
    refused = 0
    for damaged in damaged_copies(data, 300):
        try:
            preprocessing.prepare([damaged], limits, 64)
        except preprocessing.ImageError:
            refused += 1
    assert refused  # else nothing is damaged


@pytest.mark.parametrize(
    "geometry",
    [
        (640, 640, 640, 640),
        (1280, 640, 640, 320),
        (512, 683, 480, 640),
        (1, 1, 640, 640),
        (1, 5000, 1, 640),
        (5000, 1, 640, 1),
    ],
)
def test_the_longer_side_fills_the_square_and_the_rest_is_padding(preprocessing, geometry):
    height, width, fitted_height, fitted_width = geometry
    square = np.zeros((640, 640, 3), np.uint8)
    assert preprocessing.fit(Image.new("RGB", (width, height), RED), square) == geometry
    assert (square[:fitted_height, :fitted_width] == RED).all()
    assert (square[fitted_height:] == preprocessing.PIXEL_MEAN).all()
    assert (square[:, fitted_width:] == preprocessing.PIXEL_MEAN).all()


def test_shrinking_averages_instead_of_picking_pixels(preprocessing):
    stripes, square = np.zeros((64, 64, 3), np.uint8), np.zeros((8, 8, 3), np.uint8)
    stripes[:, ::2] = 255
    preprocessing.fit(Image.fromarray(stripes), square)
    assert np.abs(square.astype(int) - 127).max() <= 8


def smooth(width: int, height: int) -> Image.Image:
    """Three gradients, which no way of shrinking can tell apart much."""
    across, down = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([across, down, 255 - across], axis=2).astype(np.uint8))


@pytest.mark.parametrize("orientation", [1, 3, 6])
@pytest.mark.parametrize(
    ("size", "decoded"),
    [
        ((191, 140), (191, 140)),
        ((192, 144), (96, 72)),
        ((255, 100), (128, 50)),
        ((400, 300), (100, 75)),
        ((257, 258), (129, 129)),  # square only where it is decoded
        ((2000, 3), (2000, 3)),  # a sliver
    ],
)
def test_a_large_jpeg_is_decoded_no_larger_than_needed(
    preprocessing, limits, size, decoded, orientation
):
    stored = smooth(*size)
    data = encoded(stored, "JPEG", quality=95, exif=turned(orientation))
    upright = stored.rotate({1: 0, 3: 180, 6: -90}[orientation], expand=True)
    assert sorted(preprocessing.decode(data, limits, 64)[0].size) == sorted(decoded)
    [fitted], [geometry] = preprocessing.prepare([data], limits, 64)
    whole = np.empty((64, 64, 3), np.uint8)
    assert tuple(geometry) == preprocessing.fit(upright, whole)
    difference = np.abs(fitted.astype(int) - whole)
    assert difference.max() <= 16
    assert difference.mean() <= 2


def test_other_formats_are_decoded_whole(preprocessing, limits):
    for kind in ("PNG", "WEBP", "BMP"):
        image, original = preprocessing.decode(encoded(smooth(150, 100), kind), limits, 64)
        assert (image.size, original) == ((150, 100), (100, 150))


def test_images_of_one_request_are_prepared_as_if_alone(preprocessing):
    files = [encoded(noise(*size), "PNG") for size in [(30, 20), (20, 50), (64, 64)]]
    limits = preprocessing.Limits(max(map(len, files)), 64 * 64)  # which the last one reaches
    fitted, geometry = preprocessing.prepare(files, limits, 64)
    assert (fitted.shape, fitted.dtype, geometry.dtype) == ((3, 64, 64, 3), np.uint8, np.int32)
    each = [preprocessing.prepare([file], limits, 64) for file in files]
    assert np.array_equal(fitted, np.concatenate([alone for alone, _ in each]))
    assert np.array_equal(geometry, np.concatenate([alone for _, alone in each]))


def png_chunk(name: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(name + content)
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)


@pytest.mark.parametrize("megabytes", [1, 50])
def test_packed_text_in_a_png_is_never_unpacked(preprocessing, limits, megabytes):
    text = png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(megabytes << 20), 9))
    data = encoded(noise(), "PNG")
    image, _ = preprocessing.decode(data[:33] + text + data[33:], limits)
    assert np.array_equal(np.asarray(image), np.asarray(noise()))


@pytest.mark.parametrize("level", [0, 1000, 65535])
def test_a_transparent_level_of_16_bits_is_white(preprocessing, limits, level):
    """Exactly that level: its neighbours have the same 8 bits and stay as they are."""
    data = encoded(row("I;16", level, level ^ 1, 30_000), "PNG")
    transparent = png_chunk(b"tRNS", struct.pack(">H", level))
    image, _ = preprocessing.decode(data[:33] + transparent + data[33:], limits)
    expected = [255, ((level ^ 1) + 128) // 257, (30_000 + 128) // 257]
    assert np.asarray(image)[0, :, 0].tolist() == expected


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("size", [64, 65_535])
def test_a_jpeg_may_lack_its_end_marker_and_nothing_else(preprocessing, progressive, size):
    limits = preprocessing.Limits(max_bytes=1_000_000, max_pixels=1_000_000)
    whole = encoded(noise(320, 240), "JPEG", progressive=progressive)
    expected = np.asarray(preprocessing.decode(whole, limits, size)[0])
    for missing in (1, 2):
        image, _ = preprocessing.decode(whole[:-missing], limits, size)
        assert np.array_equal(np.asarray(image), expected)
    # Decoded smaller, the last pixels' finest details do not count.
    for missing in (*((3, 4) if size > 320 else ()), 20, 1_000, len(whole) // 2):
        with pytest.raises(preprocessing.ImageError):
            preprocessing.decode(whole[:-missing], limits, size)


def test_an_image_of_many_strips_is_blended_as_a_whole(preprocessing, limits, monkeypatch):
    monkeypatch.setattr(preprocessing, "STRIP_PIXELS", 100)
    image = noise().convert("RGBA")
    image.putalpha(noise().convert("L"))
    expected = Image.new("RGB", image.size, "white")
    expected.paste(image, mask=image)
    for kind, options in (("PNG", {}), ("WEBP", {"lossless": True, "exact": True})):
        blended, _ = preprocessing.decode(encoded(image, kind, **options), limits)
        assert np.array_equal(np.asarray(blended), np.asarray(expected))


PEAK_PROGRAM = """
import importlib.util, io, resource, sys
from PIL import Image

spec = importlib.util.spec_from_file_location("preprocessing", sys.argv[1])
preprocessing = importlib.util.module_from_spec(spec)
spec.loader.exec_module(preprocessing)
limits = preprocessing.Limits(20 << 20, 64 << 20)
small = io.BytesIO()
Image.new("RGBA", (64, 64)).save(small, "WEBP", lossless=True)
preprocessing.prepare([small.getvalue()], limits, 640)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
preprocessing.prepare([open(sys.argv[2], "rb").read()], limits, 640)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


@pytest.mark.parametrize(
    ("kind", "mode", "bytes_per_pixel"),
    [("WEBP", "RGBA", 12), ("PNG", "RGBA", 8), ("PNG", "I;16", 8), ("BMP", "RGB", 8)],
)
def test_the_memory_of_an_image_is_bounded(tmp_path, preprocessing, kind, mode, bytes_per_pixel):
    """docs/operations.md: 768 MB at 64 megapixels, which are 12 bytes a pixel."""
    size = (2048, 2048)
    path = tmp_path / "image"
    Image.new(mode, size).save(path, kind, **({"lossless": True} if kind == "WEBP" else {}))
    command = [sys.executable, "-c", PEAK_PROGRAM, preprocessing.__file__, str(path)]
    peak = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert peak < size[0] * size[1] * bytes_per_pixel + path.stat().st_size + (16 << 20)
