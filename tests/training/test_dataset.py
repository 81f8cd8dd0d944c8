"""Labelled folders: every way in which one can be wrong is a sentence that names the file."""

import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image

from pem_training import dataset
from pem_training.dataset import check_pairs, read_pair
from pemexport.segmentation_scores import DataError, Pair, find_pairs

MakeFolder = Callable[..., Path]
IMAGE, LABELS = Path("images/training/p1.jpg"), Path("annotations/training/p1.png")


def check(folder: Path, cache: Path | None = None) -> list[Pair]:
    pairs = find_pairs(folder, "training")
    check_pairs(pairs, 5, cache)
    return pairs


def test_a_good_folder_passes_and_its_pairs_come_by_name(make_folder: MakeFolder) -> None:
    folder = make_folder()
    pair = check(folder)[1]
    assert pair == Pair(folder / IMAGE, folder / LABELS)
    image, labels = read_pair(pair)
    assert (image.mode, image.size, labels.size) == ("RGB", (64, 48), (64, 48))


@pytest.mark.parametrize("image", ["p1.JPG", "p1.jpeg", "street/p1.jpg"])
@pytest.mark.parametrize("labels", ["p1.PNG", "p1.png"])
def test_names_from_other_systems(make_folder: MakeFolder, image: str, labels: str) -> None:
    folder = make_folder()
    (folder / "images/training/street").mkdir()
    expected = (folder / IMAGE.parent / image, folder / LABELS.parent / labels)
    (folder / IMAGE).rename(expected[0])
    (folder / LABELS).rename(expected[1])
    for path in (folder / IMAGE, folder / LABELS):
        path.with_name(f"._{path.name}").write_text("a resource fork of macOS")
    pairs = check(folder)
    assert len(pairs) == 3
    assert Pair(*expected) in pairs


def test_subfolders_may_hold_equal_names(make_folder: MakeFolder) -> None:
    folder = make_folder()
    for name in ("a", "b"):
        for path in (folder / IMAGE, folder / LABELS):
            (path.parent / name).mkdir()
            (path.parent / name / path.name).write_bytes(path.read_bytes())
    pairs = [pair for pair in check(folder) if pair.image.name == IMAGE.name]
    names = [(pair.image.parent.name, pair.labels.parent.name) for pair in pairs]
    assert names == [(name, name) for name in ("a", "b", "training")]


@pytest.mark.parametrize("bits", [2, 4])
def test_labels_of_fewer_bits_are_not_stretched(make_folder: MakeFolder, bits: int) -> None:
    folder = make_folder()
    labels = np.arange(48 * 64).reshape(48, 64) % 3
    grey = (labels[..., None] >> np.arange(bits)[::-1] & 1).reshape(48, -1)  # one value a bit
    rows = np.packbits(np.pad(grey, ((0, 0), (8, 0))).astype(np.uint8), axis=1)  # filter 0
    header = struct.pack(">2I5B", 64, 48, bits, 0, 0, 0, 0)
    chunks = {b"IHDR": header, b"IDAT": zlib.compress(rows.tobytes()), b"IEND": b""}
    content = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks.items()
    )
    (folder / LABELS).write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    np.testing.assert_array_equal(read_pair(check(folder)[1])[1], labels)


SPOIL: dict[str, Callable[[Path], object]] = {
    "remove": Path.unlink,
    "rename": lambda path: path.rename(path.with_suffix(".tif")),
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "raise": lambda path: Image.new("L", (64, 48), 94).save(path),
    "color": lambda path: Image.open(path).convert("RGB").save(path),
    "shrink": lambda path: Image.open(path).resize((60, 48)).save(path),
}


@pytest.mark.parametrize(
    ("spoil", "spoilt", "named", "facts"),
    [
        ("remove", IMAGE, LABELS, str(IMAGE)),
        ("remove", LABELS, IMAGE, str(LABELS)),
        ("rename", IMAGE, LABELS, r"p1\.tif"),
        ("cut", IMAGE, IMAGE, "cannot be read"),
        ("cut", LABELS, LABELS, "cannot be read"),
        ("raise", LABELS, LABELS, "0 to 5, got 94"),
        ("color", LABELS, LABELS, "8-bit .*got mode RGB"),
        ("shrink", LABELS, LABELS, "64 x 48, got 60 x 48"),
        ("shrink", IMAGE, LABELS, "60 x 48, got 64 x 48"),
    ],
)
def test_a_mistake_is_a_sentence_that_names_the_file(
    make_folder: MakeFolder, spoil: str, spoilt: Path, named: Path, facts: str
) -> None:
    folder = make_folder()
    SPOIL[spoil](folder / spoilt)
    with pytest.raises(DataError) as raised:
        check(folder)
    message = str(raised.value)
    assert message.startswith(f"{folder / named} ")
    assert re.search(facts, message)
    assert "\n" not in message


def test_an_empty_folders_error_names_the_layout(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"images/training/X\.jpg and annotations/"):
        find_pairs(tmp_path, "training")


def test_all_faulty_files_are_named_up_to_ten(make_folder: MakeFolder) -> None:
    folder = make_folder(training=13)
    for number in range(12):
        (folder / f"images/training/p{number}.jpg").write_text("no image")
    with pytest.raises(DataError) as raised:
        check(folder)
    lines = str(raised.value).splitlines()
    assert (len(lines), lines[-1]) == (11, "... and 2 more")


def test_an_image_lying_on_its_side_is_turned_as_the_server_does(make_folder: MakeFolder) -> None:
    folder = make_folder()
    lying = Image.open(folder / IMAGE).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn me clockwise"
    lying.save(folder / IMAGE, exif=exif, quality=100)
    image, _ = read_pair(check(folder)[1])
    upright = np.asarray(Image.open(make_folder(name="same") / IMAGE), float)
    assert np.abs(np.asarray(image, float) - upright).mean() < 3


def test_a_second_check_reads_only_what_changed(
    make_folder: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, cache = make_folder(training=3), tmp_path / "runs" / "checked.json"
    check(folder, cache)
    note = Mock(side_effect=read_pair)
    monkeypatch.setattr(dataset, "read_pair", note)
    check(folder, cache)
    note.assert_not_called()
    SPOIL["raise"](folder / LABELS)
    for _ in range(2):  # what is wrong is not remembered as good
        with pytest.raises(DataError, match="got 94"):
            check(folder, cache)
    assert [call.args[0].image for call in note.call_args_list] == [folder / IMAGE] * 2
