"""Liveness: does the server still answer an image? Exit code 0 if so, 1 with a sentence if not.

    python3 alive.py [--url http://127.0.0.1:8000] [--deadline 10]

Triton's health endpoint stays at 200 when the process of a Python step has died, so this sends the
whole path an image of 8 x 8 pixels. A server that refuses because it is busy is alive: a restart
would only make an overload worse. Standard library only, so that it runs in every image.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import struct
import sys
import zlib
from collections.abc import Sequence
from urllib.parse import urlsplit

MODEL = "fai-pem-m-ade"
# How long the image may wait in a limited queue. Below the deadline, so that a busy server can
# still say that it is busy.
QUEUE_LIMIT_S = 3.0


def main(argv: Sequence[str] | None = None) -> int:
    """Send one image; the fault goes to standard error, where the kubelet and Docker show it."""
    options = _options(argv)
    if problem := why_dead(options.url, options.deadline):
        print(problem, file=sys.stderr)
        return 1
    return 0


def why_dead(url: str, deadline_s: float) -> str | None:
    """Return one sentence when the server at `url` gives no answer to an image, None otherwise."""
    try:
        status, body = _infer(url, deadline_s)
    except (OSError, http.client.HTTPException) as error:
        return (
            f"The server at {url} must answer an image within {deadline_s:g} s, "
            f"and the request failed ({error or type(error).__name__}): restart it."
        )
    if status == http.HTTPStatus.SERVICE_UNAVAILABLE or _has_detections(status, body):
        return None
    answer = body[:300].decode(errors="replace")
    return f"The server at {url} answered an image with {status} ({answer}): restart it."


def image() -> bytes:
    """Return a grey PNG of 8 x 8 pixels."""
    header = struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0)
    rows = zlib.compress((b"\0" + b"\x80" * 8) * 8)
    chunks = ((b"IHDR", header), (b"IDAT", rows), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in chunks)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _infer(url: str, deadline_s: float) -> tuple[int, bytes]:
    encoded = image()
    tensor = struct.pack("<I", len(encoded)) + encoded
    question = {
        "parameters": {"timeout": int(QUEUE_LIMIT_S * 1e6)},  # microseconds
        "inputs": [
            {
                "name": "image",
                "datatype": "BYTES",
                "shape": [1, 1],
                "parameters": {"binary_data_size": len(tensor)},
            }
        ],
        "outputs": [{"name": "detections"}],
    }
    header = json.dumps(question).encode()
    # A connection of its own: one kept open would delay the server's stop.
    headers = {"Inference-Header-Content-Length": str(len(header)), "Connection": "close"}
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=deadline_s)
    with contextlib.closing(connection):
        connection.request("POST", f"/v2/models/{MODEL}/infer", header + tensor, headers)
        response = connection.getresponse()
        return response.status, response.read()


def _has_detections(status: int, body: bytes) -> bool:
    """Look inside: a wrong NumPy in the server makes empty tensors of the right shape, with 200."""
    if status != http.HTTPStatus.OK:
        return False
    try:
        return "detections" in json.loads(json.loads(body)["outputs"][0]["data"][0])
    except (ValueError, LookupError, TypeError):
        return False


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="alive.py", description=__doc__.splitlines()[0])
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="default %(default)s")
    parser.add_argument(
        "--deadline", type=float, default=10.0, metavar="SECONDS", help="default %(default)g"
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    raise SystemExit(main())
