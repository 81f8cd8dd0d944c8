"""Overlays are drawn by a process of their own, because the gateway never decodes an image.

A process for each overlay, at most one at a time: what an image does to a decoder ends with the
process, its memory is limited and given back, and serving goes before it (nice). A small image
costs 0.3 s of processor time, nearly all of it the start of Python, one of 12 megapixels 1.8 s;
whoever draws many has the detections and `pem_client` for it.
"""

import asyncio
import contextlib
import os
import sys
from collections.abc import Iterator

from grpc import StatusCode

from .refusal import Refusal, bad_request

WAITING = 4  # requests that may be at their overlay or wait for it
LONGEST_S = 30.0
BAD_IMAGE = 3  # the exit code that says that stderr has a sentence for the client
PROGRAM = ("-m", "pem_gateway.overlay_worker")


class Overlays:
    """Draws one overlay at a time, and refuses what would wait for long."""

    def __init__(self) -> None:
        self._one = asyncio.Semaphore(1)
        self._places = WAITING

    @contextlib.contextmanager
    def place(self) -> Iterator[None]:
        """Hold a place in the queue. Raises Refusal where there is none."""
        if not self._places:
            raise Refusal(
                StatusCode.UNAVAILABLE,
                "overload",
                f"{WAITING} overlays are being drawn already; send this image again later, or ask "
                "for the detections and draw them with pem_client",
                retry_after_s=2.0,
            )
        self._places -= 1
        try:
            yield
        finally:
            self._places += 1

    async def draw(self, image: bytes, detections: bytes, limit_s: float = LONGEST_S) -> bytes:
        """The PNG of an image with its detections (JSON) over it. Raises Refusal."""
        try:
            async with asyncio.timeout(limit_s), self._one:
                return await _draw(len(image).to_bytes(8, "little") + image + detections)
        except TimeoutError:
            raise Refusal(
                StatusCode.DEADLINE_EXCEEDED,
                "deadline",
                f"the overlay took longer than the {limit_s:.3g} s that were left; send a smaller "
                "image, or ask for the detections and draw them with pem_client",
            ) from None


async def _draw(question: bytes) -> bytes:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *PROGRAM,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
    )
    try:
        drawn, errors = await process.communicate(question)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode == BAD_IMAGE:
        raise bad_request(errors.decode(errors="replace").strip()[:500])
    if process.returncode:
        raise Refusal(
            StatusCode.INTERNAL,
            "failed",
            "the overlay could not be drawn; ask for the detections and draw them with pem_client",
        )
    return drawn
