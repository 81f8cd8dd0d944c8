"""Images nobody should send: each has a defined answer, and none touches its neighbours."""

import io
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from pem_client import Client, InvalidRequest
from pem_server import TritonServer


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and has no pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(b"\0" * 100))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


SMALL = Image.linear_gradient("L").convert("RGB").resize((64, 48))

REFUSED = {
    "empty": (b"", "must not be empty"),
    "text": (b"this is no image", "must be a whole JPEG, PNG, WebP or BMP file"),
    "truncated": (saved(SMALL, "JPEG")[:300], "must be a whole JPEG"),
    "cut png": (saved(SMALL, "PNG")[:-40], "must be a whole JPEG"),
    "zero-sized": (png_header(0, 0), "pixel"),
    "30,000 x 30,000": (png_header(30_000, 30_000), "30,000 x 30,000"),
    "gif": (saved(SMALL, "GIF"), "must be a whole JPEG, PNG, WebP or BMP file"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_image_that_cannot_be_used_gets_one_sentence(client: Client, name: str) -> None:
    data, sentence = REFUSED[name]
    with pytest.raises(InvalidRequest, match=sentence) as caught:
        client.infer(data)
    text = str(caught.value)
    assert "Traceback" not in text
    assert "ensemble" not in text
    assert "\n" not in text


@pytest.mark.parametrize("threshold", [-0.1, 1.5, float("nan")])
def test_a_threshold_that_is_none_gets_one_sentence(client: Client, threshold: float) -> None:
    with pytest.raises(InvalidRequest, match="threshold must be a number from 0 to 1"):
        client.infer(saved(SMALL, "PNG"), threshold=threshold)


def over_white(street: Image.Image) -> tuple[Image.Image, Image.Image]:
    alpha = Image.linear_gradient("L").resize(street.size)
    transparent = street.copy()
    transparent.putalpha(alpha)
    white = Image.new("RGB", street.size, "white")
    return transparent, Image.composite(street, white, alpha)


def test_unusual_but_whole_images_are_read_as_people_see_them(
    grpc_client: Client, street: Image.Image
) -> None:
    grey = ImageOps.grayscale(street)
    sixteen = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    transparent, composed = over_white(street)
    frames = [street, ImageOps.invert(street)]
    animated = saved(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    palette = street.quantize(64)
    cases = {
        "16 bit": (saved(sixteen, "PNG"), grey),
        "grey": (saved(grey, "PNG"), grey),
        "alpha": (saved(transparent, "PNG"), composed),
        "palette": (saved(palette, "PNG"), palette),
        "animated": (animated, street),
        "bmp": (saved(street, "BMP"), street),
    }
    for name, (data, seen) in cases.items():
        expected = grpc_client.segment(saved(seen.convert("RGB"), "PNG"))
        same = (grpc_client.segment(data) == expected).mean()
        assert same > 0.999, name


def test_a_cmyk_jpeg_shows_the_same_street(grpc_client: Client, street: Image.Image) -> None:
    class_map = grpc_client.segment(saved(street.convert("CMYK"), "JPEG", quality=95))
    assert (class_map == grpc_client.segment(street)).mean() > 0.97


def test_a_good_image_among_bad_ones_is_answered_as_if_alone(
    server: TritonServer, street_path: Path
) -> None:
    good = street_path.read_bytes()
    bad = [data for data, _ in REFUSED.values()]
    requests = [good, *bad, good]

    def ask(data: bytes) -> object:
        with Client(server.grpc_url) as client:
            try:
                return client.infer(data).to_dict()["detections"]
            except InvalidRequest as error:
                return error

    alone = ask(good)
    with ThreadPoolExecutor(len(requests)) as pool:
        answers = list(pool.map(ask, requests))
    assert answers[0] == answers[-1] == alone
    assert all(isinstance(answer, InvalidRequest) for answer in answers[1:-1])
