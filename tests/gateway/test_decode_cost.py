"""Estimates of decoding beside what was measured, and what is refused before it waits."""

import pytest

from pem_gateway.callable_models import Contract
from pem_gateway.decode_cost import decode_seconds, images_seconds
from pem_gateway.refusal import Refusal
from pem_server.image_header import ImageHeader

# A photograph of 640x480; the files below were measured in these, on a busy machine.
PHOTOGRAPH = decode_seconds(ImageHeader("JPEG", 640, 480), 83_000)
BIG, WIDE = (8192, 8192), (16383, 4096)
COSTLY = [
    (ImageHeader("BMP", 4096, 4096, 1, is_run_length=True), 18_001_080, 1108),
    (ImageHeader("JPEG", *BIG, scans=100), 403_093, 877),
    (ImageHeader("PNG", *BIG, 4, 16, has_alpha=True), 521_899, 688),
    (ImageHeader("WEBP", *WIDE, is_lossless=True, has_alpha=True), 98, 617),
    (ImageHeader("WEBP", *WIDE, is_lossless=True, has_alpha=True), 46, 450),
    (ImageHeader("PNG", *BIG, 4, has_alpha=True), 260_987, 458),
    (ImageHeader("WEBP", *WIDE), 178_266, 335),
    (ImageHeader("PNG", *BIG, 1, 16), 130_531, 235),
    (ImageHeader("PNG", *BIG, 1, has_alpha=True), 66_351, 202),
    (ImageHeader("BMP", *BIG, 1), 8_388_670, 130),
    (ImageHeader("JPEG", *BIG), 1_049_204, 9),
    (ImageHeader("JPEG", 4000, 3000, scans=10), 10_529_868, 95),
    (ImageHeader("JPEG", 4000, 3000), 11_651_048, 28),
    (ImageHeader("PNG", 4000, 3000), 6_060_995, 78),
    (ImageHeader("WEBP", 2000, 1500), 2_000_450, 38),
]


@pytest.mark.parametrize(("header", "size", "photographs"), COSTLY)
def test_no_estimate_is_below_half_of_the_truth(
    header: ImageHeader, size: int, photographs: int
) -> None:
    estimate = decode_seconds(header, size) / PHOTOGRAPH
    assert estimate > 0.5 * photographs
    assert estimate < 6 * photographs, "nor does one refuse what is cheap"


def test_a_large_photograph_is_cheap() -> None:
    assert decode_seconds(ImageHeader("JPEG", 8000, 6000), 20_000_000) < 0.5


def test_the_images_of_a_request_are_added_up(contract: Contract) -> None:
    one = images_seconds([b"no image at all"], contract.limits)
    assert images_seconds([b"no image at all"] * 3, contract.limits) == pytest.approx(3 * one)
    assert images_seconds([], contract.limits) == 0


@pytest.mark.parametrize(
    ("image", "reason", "named"),
    [
        (b"", "bad_image", "0 bytes"),
        (bytes(20_971_521), "too_large", "20,971,520"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR" + b"\0\1\0\0" * 2 + bytes(9), "too_large", "65,536 x"),
    ],
)
def test_what_pem_preprocess_would_refuse_is_refused_with_its_place(
    contract: Contract, image: bytes, reason: str, named: str
) -> None:
    with pytest.raises(Refusal) as caught:
        images_seconds([b"good", memoryview(image)], contract.limits)
    assert (caught.value.reason, caught.value.http_status) == (reason, 400)
    assert "image 1 of 2" in caught.value.sentence
    assert named in caught.value.sentence
