"""Images nobody should send: each has a defined answer, and none touches its neighbours."""

import io
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image

from pem_client import Client, InvalidRequest


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and has no pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(b"\0" * 100))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


SMALL = Image.linear_gradient("L").convert("RGB").resize((64, 48))

REFUSED = {  # what the message names
    "empty": (b"", "empty"),
    "text": (b"this is no image", "JPEG, PNG, WebP or BMP"),
    "truncated": (saved(SMALL, "JPEG")[:300], "JPEG"),
    "cut png": (saved(SMALL, "PNG")[:-40], "JPEG"),
    "zero-sized": (png_header(0, 0), "pixel"),
    "30,000 x 30,000": (png_header(30_000, 30_000), "30,000 x 30,000"),
    "gif": (saved(SMALL, "GIF"), "JPEG, PNG, WebP or BMP"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_image_that_cannot_be_used_gets_one_sentence(client, name):
    data, sentence = REFUSED[name]
    with pytest.raises(InvalidRequest, match=sentence) as caught:
        client.infer(data)
    assert not any(word in str(caught.value) for word in ("Traceback", "ensemble", "\n"))


@pytest.mark.parametrize("threshold", [-0.1, 1.5, float("nan")])
def test_a_threshold_that_is_none_gets_one_sentence(client, threshold):
    with pytest.raises(InvalidRequest, match="threshold"):
        client.infer(saved(SMALL, "PNG"), threshold=threshold)


def test_a_good_image_among_bad_ones_is_answered_as_if_alone(server, street_path):
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
