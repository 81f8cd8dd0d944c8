"""What is sent."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pem_loadtest.images import EncodedImage, choose, make_broken, make_images, read_folder


def test_images_are_made_in_several_sizes_and_encodings_by_the_seed(root: Path) -> None:
    street = root / "docs" / "street.jpg"
    made = make_images(street, seed=1, number=12)
    assert made == make_images(street, seed=1, number=12)
    assert made != make_images(street, seed=2, number=12)
    formats = set()
    for image in made:
        with Image.open(io.BytesIO(image.data)) as opened:
            assert opened.size == (image.width, image.height)
            formats.add(opened.format)
    assert len({(image.width, image.height) for image in made}) >= 3
    assert len(formats) >= 2
    assert not any(image.is_broken for image in made)


def test_a_folder_gives_its_images_with_their_upright_size(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    Image.new("RGB", (30, 20)).save(tmp_path / "b.jpg", exif=exif)
    Image.new("L", (5, 6)).save(tmp_path / "a.PNG")
    (tmp_path / "notes.txt").write_text("no image")
    found = [(image.name, image.width, image.height) for image in read_folder(tmp_path)]
    assert found == [("a.PNG", 5, 6), ("b.jpg", 20, 30)]


def test_a_folder_without_images_or_with_a_broken_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="contains no images"):
        read_folder(tmp_path)
    (tmp_path / "a.jpg").write_text("no image")
    with pytest.raises(ValueError, match=r"a\.jpg is not an image"):
        read_folder(tmp_path)


def test_nothing_broken_can_be_opened(root: Path) -> None:
    for image in make_broken(make_images(root / "docs" / "street.jpg", seed=1, number=1)[0]):
        assert image.is_broken
        with pytest.raises(OSError), Image.open(io.BytesIO(image.data)) as opened:  # noqa: PT011
            opened.load()


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_the_share_of_broken_images_is_kept(share: float) -> None:
    image = EncodedImage("good", b"", 8, 8)
    chosen = choose([image] * 3, [image] * 4, share, 20_000, np.random.default_rng(2))
    assert np.mean([index >= 3 for index in chosen]) == pytest.approx(share, abs=0.01)
    assert set(chosen) == set(range(7 if share else 3))
