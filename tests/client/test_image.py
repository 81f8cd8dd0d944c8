"""Images in: sent unchanged, encoded, or refused."""

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from pem_client import ImageError
from pem_client._image import encode_image, upright_rgb

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
ORIENTATION = 0x0112
TURNED = 6  # EXIF: the image must be turned clockwise to stand upright


def jpeg(orientation: int = 1) -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION], exif[0x010F] = orientation, "a maker"
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, format="JPEG", exif=exif)
    return buffer.getvalue()


def decode(encoded: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(encoded))
    assert image.format == "PNG"
    return image


@pytest.mark.parametrize("content", [b"", b"no image at all", jpeg()])
def test_bytes_and_files_are_sent_unchanged(tmp_path, content):
    path = tmp_path / "image.jpg"
    path.write_bytes(content)
    assert encode_image(content) == encode_image(path) == encode_image(str(path)) == content


@pytest.mark.parametrize("array", [PIXELS, PIXELS[:, :, 0], PIXELS[::-1, ::2], PIXELS[:1, :1]])
def test_an_array_arrives_pixel_for_pixel_and_with_sixteen_bits_as_a_pil_image(array):
    assert np.array_equal(np.asarray(decode(encode_image(array))), array)
    deep = PIXELS[:, :, 0] * np.uint16(250)
    assert np.array_equal(np.asarray(decode(encode_image(Image.fromarray(deep)))), deep)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "HSV", "F"])
def test_a_pil_image_arrives_pixel_for_pixel_where_png_can_hold_it_or_as_rgb(mode):
    image = Image.fromarray(PIXELS).convert(mode)
    sent = decode(encode_image(image))
    assert sent.mode == ("RGB" if mode in ("CMYK", "HSV", "F") else mode)
    assert sent.tobytes() == image.convert(sent.mode).tobytes()


def test_a_turned_image_is_sent_and_drawn_on_upright(tmp_path):
    sent = decode(encode_image(Image.open(io.BytesIO(jpeg(TURNED)))))
    assert sent.size == (6, 9)
    assert sent.getexif().get(ORIENTATION, 1) == 1
    path = tmp_path / "turned.jpg"
    for orientation in range(10):
        path.write_bytes(jpeg(orientation))
        expected = np.asarray(ImageOps.exif_transpose(Image.open(path)))
        for image in (path, path.read_bytes(), Image.open(path)):
            assert np.array_equal(np.asarray(upright_rgb(image)), expected)


def test_damage_elsewhere_in_the_exif_does_not_stop_the_turn():
    damaged = bytearray(jpeg(TURNED))
    damaged[damaged.index(b"Exif") + 17] = 0  # the type of the maker's tag, which is then no type
    assert upright_rgb(bytes(damaged)).size == (6, 9)


def test_sixteen_bits_are_scaled_and_transparency_becomes_white_under_an_overlay():
    deep = Image.fromarray(np.full((1, 1), 0x8080, np.uint16))
    assert upright_rgb(deep).getpixel((0, 0)) == (0x80, 0x80, 0x80)
    clear = Image.new("RGBA", (1, 1), (200, 0, 0, 0))
    assert upright_rgb(clear).getpixel((0, 0)) == (255, 255, 255)


def test_an_overlay_never_draws_on_the_array_that_was_given():
    array = PIXELS.copy()
    upright_rgb(array).paste("black", (0, 0, 9, 6))
    assert np.array_equal(array, PIXELS)


SHAPED = [np.zeros(shape, np.uint8) for shape in ((0, 5, 3), (4, 5, 4), (1, 4, 5, 3), (5,))]
TYPED = [np.zeros((4, 5, 3), np.float32), np.zeros((4, 5), bool)]


@pytest.mark.parametrize("array", [*SHAPED, *TYPED])
def test_an_array_of_another_shape_or_type_is_refused(array):
    with pytest.raises(ImageError, match=r"\(H, W, 3\)") as caught:
        encode_image(array)
    assert f"{array.shape} {array.dtype}" in str(caught.value)


@pytest.mark.parametrize("thing", [None, 3, [[1, 2], [3, 4]], io.BytesIO(b"")])
def test_another_type_is_refused_by_its_name(thing):
    with pytest.raises(ImageError, match=type(thing).__name__):
        encode_image(thing)


def test_an_unreadable_path_is_refused_by_its_name(tmp_path):
    missing = (tmp_path / "missing.jpg", r"missing\.jpg: No such file")
    for path, part in (missing, (tmp_path, "Is a directory"), ("a\0b", "null")):
        with pytest.raises(ImageError, match=part):
            encode_image(path)


def test_a_broken_image_has_no_overlay_and_as_a_pil_image_is_not_sent():
    for encoded in (b"", b"text", jpeg()[:200]):
        with pytest.raises(ImageError) as caught:
            upright_rgb(encoded)
        assert "0x" not in str(caught.value)
    with Image.open(io.BytesIO(jpeg()[:-40])) as image, pytest.raises(ImageError, match="truncat"):
        encode_image(image)
