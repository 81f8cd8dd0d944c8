"""What is sent."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pem_loadtest.images import EncodedImage, choose, make_broken, make_images, read_folder


def test_images_are_made_in_several_sizes_and_encodings_by_the_seed(root: Path) -> None:
    made, same, others = (make_images(root / "docs/street.jpg", seed, 12) for seed in (1, 1, 2))
    assert made == same != others
    opened = [Image.open(io.BytesIO(image.data)) for image in made]
    assert [image.size for image in opened] == [(image.width, image.height) for image in made]
    assert len({image.size for image in opened}) >= 3
    assert len({image.format for image in opened}) >= 2


def test_a_folder_gives_images_with_their_upright_size_or_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="contains no images"):
        read_folder(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    Image.new("RGB", (30, 20)).save(tmp_path / "b.jpg", exif=exif)
    Image.new("L", (5, 6)).save(tmp_path / "a.PNG")
    (tmp_path / "notes.txt").write_text("no image")
    found = [(image.name, image.width, image.height) for image in read_folder(tmp_path)]
    assert found == [("a.PNG", 5, 6), ("b.jpg", 20, 30)]
    (tmp_path / "a.jpg").write_text("no image")
    with pytest.raises(ValueError, match=r"a\.jpg is not an image"):
        read_folder(tmp_path)


def test_nothing_broken_can_be_opened(root: Path) -> None:
    for image in make_broken(make_images(root / "docs" / "street.jpg", seed=1, number=1)[0]):
        assert image.is_broken
        with pytest.raises(OSError), Image.open(io.BytesIO(image.data)) as opened:  # noqa: PT011
            opened.load()


def test_the_share_of_broken_images_is_kept() -> None:
    image = EncodedImage("good", b"", 8, 8)
    for share, indices in ((0.0, 3), (0.5, 7)):
        chosen = choose([image] * 3, [image] * 4, share, 20_000, np.random.default_rng(2))
        assert np.mean([index >= 3 for index in chosen]) == pytest.approx(share, abs=0.01)
        assert set(chosen) == set(range(indices))
