"""Overlays are drawn by processes that are bounded in number, memory, time and life."""

import asyncio
import contextlib
import io
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from grpc import StatusCode
from PIL import Image

from pem_gateway.overlay_process import WAITING, Overlays
from pem_gateway.overlay_worker import MOST_PIXELS
from pem_gateway.refusal import Refusal

NOTHING = b'{"detections":[],"latency":{}}'


@pytest.fixture
def photo() -> bytes:
    return _png((60, 40))


def _png(size: tuple[int, int], mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    Image.new(mode, size).save(file, "PNG")
    return file.getvalue()


def _overlays(images: list[bytes], detections: bytes) -> Iterator[bytes | Refusal]:
    async def main() -> list[Any]:
        overlays = Overlays()
        drawn = (overlays.draw(image, detections) for image in images)
        return await asyncio.gather(*drawn, return_exceptions=True)

    yield from asyncio.run(main())


def test_an_overlay_is_drawn_by_another_process(photo: bytes) -> None:
    large = _png((MOST_PIXELS + 1, 1), "1")
    overlay, refused, failed = _overlays([photo, large, b"none"], NOTHING)
    assert isinstance(overlay, bytes)
    assert Image.open(io.BytesIO(overlay)).size == (60, 40)
    assert isinstance(refused, Refusal)
    assert refused.code is StatusCode.INVALID_ARGUMENT
    assert f"{MOST_PIXELS:,}" in refused.sentence
    assert isinstance(failed, Refusal)
    assert failed.code is StatusCode.INTERNAL


def test_an_overlay_that_nobody_waits_for_ends_with_its_process(photo: bytes) -> None:
    async def main() -> None:
        others = set(psutil.Process().children())
        drawing = asyncio.create_task(Overlays().draw(photo, NOTHING))
        while not (workers := set(psutil.Process().children()) - others):
            await asyncio.sleep(0.001)
        drawing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await drawing
        assert not any(worker.is_running() for worker in workers)

    asyncio.run(main())


def test_places_for_overlays_are_few_and_come_back() -> None:
    overlays = Overlays()
    with contextlib.ExitStack() as held:
        for _ in range(WAITING):
            held.enter_context(overlays.place())
        with pytest.raises(Refusal) as refused, overlays.place():
            pass
    assert refused.value.code is StatusCode.UNAVAILABLE
    with overlays.place():
        pass


def test_an_overlay_has_only_the_time_that_its_request_has(photo: bytes) -> None:
    with pytest.raises(Refusal) as refused:
        asyncio.run(Overlays().draw(photo, NOTHING, limit_s=0.0))
    assert refused.value.code is StatusCode.DEADLINE_EXCEEDED
