"""Inputs that are wrong in random ways: files of images, bodies and messages, from good ones."""

import io
import json
import random
import struct
import zlib
from collections.abc import Iterator
from typing import Any

from PIL import Image
from tritonclient.grpc.service_pb2 import ModelInferRequest

MODEL = "fai-pem-m-ade"
EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
PNG = b"\x89PNG\r\n\x1a\n"


def drawn(width: int = 200, height: int = 150) -> Image.Image:
    """An image with something in it."""
    image = Image.new("RGB", (width, height), (90, 120, 60))
    for x in range(0, width, 16):
        color = ((x * 7) % 256, (x * 3) % 256, (x * 11) % 256)
        image.paste(color, (x, x % height, x + 8, height))
    return image


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """The file of an image."""
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def seeds() -> list[bytes]:
    """Good files of every format that is read, and of some that are not."""
    base = drawn()
    exif = Image.Exif()
    exif[0x0112] = 6
    frames = {"save_all": True, "append_images": [base.rotate(90), base.rotate(180)]}
    found = [
        encoded(base, "JPEG"),
        encoded(base, "JPEG", progressive=True, exif=exif, icc_profile=bytes(600)),
        encoded(base.convert("CMYK"), "JPEG"),
        encoded(base.convert("L"), "JPEG", quality=100, subsampling=0),
        encoded(base, "PNG", exif=exif, icc_profile=b"\1" * 300),
        encoded(base, "PNG", **frames),
        encoded(base, "WEBP"),
        encoded(base, "WEBP", lossless=True),
        encoded(base.convert("RGBA"), "WEBP", exif=exif),
        encoded(base, "WEBP", **frames),
        encoded(base, "MPO", **frames),
        encoded(Image.new("I;16", (200, 150), 3000), "PNG"),
    ]
    for mode in ("RGBA", "P", "LA", "1"):
        found.append(encoded(base.convert(mode), "PNG"))
    for mode in ("RGB", "P", "1", "RGBA"):
        found.append(encoded(base.convert(mode), "BMP"))
    found += [encoded(base, kind) for kind in ("GIF", "TIFF", "ICO", "PPM")]
    return found


def mutated(rng: random.Random, good: bytes, other: bytes) -> bytes:
    """`good` with one to eight faults, the more of them near its beginning."""
    out = bytearray(good)
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        zone = min(len(out), rng.choice((32, 64, 200, len(out)))) or 1
        _spoil(rng, out, rng.randrange(zone), other)
        out = out or bytearray(1)
    return bytes(out)


def _spoil(rng: random.Random, out: bytearray, at: int, other: bytes) -> None:
    size = rng.randrange(1, 300)
    match rng.randrange(10):
        case 0:
            out[at] ^= 1 << rng.randrange(8)
        case 1:
            out[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFE, 0xFF, rng.randrange(256)))
        case 2:
            width = rng.choice((2, 4))
            number = rng.choice(EXTREMES) & (256**width - 1)
            out[at : at + width] = number.to_bytes(width, rng.choice(("big", "little")))
        case 3:
            del out[rng.randrange(len(out)) :]
        case 4:
            out[at:at] = out[at : at + size]
        case 5:
            out[at:at] = rng.randbytes(size)
        case 6:
            del out[at : at + size]
        case 7:
            out[at : at + size] = bytes([rng.choice((0, 255))]) * size
        case 8:
            out[at:] = other[rng.randrange(len(other)) :]
        case 9:
            out += rng.randbytes(size)


def with_checksums(png: bytes) -> bytes:
    """A PNG whose chunks have right checksums, so that a fault gets past them."""
    if not png.startswith(PNG):
        return png
    out, at = bytearray(PNG), len(PNG)
    while at + 12 <= len(png):
        size = int.from_bytes(png[at : at + 4], "big")
        if size > len(png) - at - 12:
            break
        body = png[at + 4 : at + 8 + size]
        out += png[at : at + 4] + body + struct.pack(">I", zlib.crc32(body))
        at += 12 + size
    return bytes(out + png[at:])


def message(image: bytes, *outputs: str) -> bytes:
    """The gRPC message that asks for an image."""
    asked = ModelInferRequest(model_name=MODEL)
    asked.inputs.add(name="image", datatype="BYTES", shape=[1, 1])
    for output in outputs:
        asked.outputs.add(name=output)
    asked.raw_input_contents.append(len(image).to_bytes(4, "little") + image)
    return bytes(asked.SerializeToString())


def body(image: bytes, *outputs: str) -> tuple[bytes, bytes]:
    """The JSON and the tensor of the HTTP request that asks for an image."""
    raw = len(image).to_bytes(4, "little") + image
    tensor = {"name": "image", "datatype": "BYTES", "shape": [1, 1]}
    wanted = [{"name": name, "parameters": {"binary_data": True}} for name in outputs]
    inputs = [{**tensor, "parameters": {"binary_data_size": len(raw)}}]
    question = {"inputs": inputs, "outputs": wanted, "parameters": {"timeout": 30_000_000}}
    return json.dumps(question).encode(), raw


def bad_requests(rng: random.Random, good: bytes) -> Iterator[tuple[str, bytes, int]]:
    """Wire, content, and for HTTP the length of its JSON: half of them images, half of them not."""
    files = seeds()
    while True:
        image = mutated(rng, rng.choice(files), rng.choice(files))
        if rng.random() < 0.5:
            image = with_checksums(image)
        output = rng.choice(("detections", "detections", "segmentation"))
        head, raw = body(image, output)
        yield "http", head + raw, len(head)
        yield "plain", image, 0
        yield "grpc", message(image, output), 0
        head, raw = body(good, output)
        spoiled = mutated(rng, head, head)
        yield "http", spoiled + raw, rng.choice((len(head), len(spoiled)))
        whole = message(good, output)
        edge = len(whole) - len(good)  # before the image: the structure
        yield "grpc", mutated(rng, whole[:edge], whole[:edge]) + whole[edge:], 0
        yield "socket", mutated(rng, SOCKET % len(image), SOCKET) + image[:2000], 0


SOCKET = (
    b"POST /v1/segment?threshold=0.5 HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n"
    b"Content-Type: image/jpeg\r\nConnection: close\r\n\r\n"
)
