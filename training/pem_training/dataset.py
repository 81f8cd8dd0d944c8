"""Labelled images on disk, in the layout of the ADE20K scene-parsing data.

    FOLDER/images/SPLIT/X.jpg        the image
    FOLDER/annotations/SPLIT/X.png   its labels, 8 bits: 0 not labelled, else class id + 1

Everything that can be wrong with a folder is a `DataError`: one sentence for each file.
"""

import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from pem_training.progress import bar

SHOWN = 10  # faulty files that a message names


class DataError(ValueError):
    """A folder or file that cannot be learnt from or measured on; the message names it."""


@dataclass(frozen=True)
class Pair:
    """An image and its labels."""

    image: Path
    labels: Path


def find_pairs(folder: Path, split: str) -> list[Pair]:
    """All pairs of a split, by name. Raises DataError if it is empty or one has no counterpart."""
    images, labels = (
        {path.stem: path for path in sorted((folder / kind / split).glob(f"*{suffix}"))}
        for kind, suffix in (("images", ".jpg"), ("annotations", ".png"))
    )
    if not images and not labels:
        raise DataError(
            f"{folder} must hold images/{split}/X.jpg and annotations/{split}/X.png, "
            "but there are none"
        )
    missing = []
    for name in sorted(images.keys() ^ labels.keys()):
        present = images.get(name) or labels[name]
        kind, suffix = ("annotations", ".png") if name in images else ("images", ".jpg")
        wanted = folder / kind / split / (name + suffix)
        missing.append(f"{present} must have its counterpart {wanted}, but that is missing")
    _complain(missing)
    return [Pair(path, labels[name]) for name, path in images.items()]


def read_pair(pair: Pair) -> tuple[Image.Image, Image.Image]:
    """The image, upright RGB, and its labels, mode L or P; DataError if they cannot be used."""
    image = read_image(pair.image)
    labels = _open(pair.labels)
    if labels.mode not in ("L", "P"):
        raise DataError(
            f"{pair.labels} must be an 8-bit image of one channel, got mode {labels.mode}"
        )
    if labels.size != image.size:
        raise DataError(
            f"{pair.labels} must be as large as its image, {_size(image)}, got {_size(labels)}"
        )
    return image, labels


def read_image(path: Path) -> Image.Image:
    """The image as the server sees it: EXIF orientation applied, RGB."""
    return _open(path).convert("RGB")


def check_pairs(pairs: Sequence[Pair], classes: int, cache: Path | None = None) -> None:
    """Read every file and raise DataError naming those that cannot be used.

    `classes`: labels must be 0 to this. `cache` is a file that remembers which pairs were good, by
    name, size and time of change, so that a second check takes no time.
    """
    known = _read_cache(cache)
    marks = {_mark(pair, classes): pair for pair in pairs}
    unknown = {mark: pair for mark, pair in marks.items() if mark not in known}
    if not unknown:
        return
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # decoders let go of Python's lock
        answers = pool.map(lambda pair: _fault(pair, classes), unknown.values())
        faults = list(bar(answers, "checking images", len(unknown), leave=False))
    good = {mark for mark, fault in zip(unknown, faults, strict=True) if fault is None}
    if cache is not None:
        _write_cache(cache, known | good)
    _complain([fault for fault in faults if fault is not None])


def _fault(pair: Pair, classes: int) -> str | None:
    """The sentence about what is wrong with a pair, if anything is."""
    try:
        _, labels = read_pair(pair)
    except DataError as error:
        return str(error)
    highest = int(np.asarray(labels).max())
    if highest > classes:
        return f"{pair.labels} must hold labels from 0 to {classes}, got {highest}"
    return None


def _complain(faults: Sequence[str]) -> None:
    if faults:
        more = [f"... and {len(faults) - SHOWN} more"] if len(faults) > SHOWN else []
        raise DataError("\n".join([*faults[:SHOWN], *more]))


def _open(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            image.load()
            return ImageOps.exif_transpose(image)
    except Exception as error:  # decoders raise nearly any type on damaged bytes
        raise DataError(f"{path} must be a whole image, but cannot be read: {error}") from error


def _size(image: Image.Image) -> str:
    return f"{image.width} x {image.height}"


def _mark(pair: Pair, classes: int) -> str:
    """A text that changes when a file of the pair does."""
    facts = [str(classes)]
    for path in (pair.image, pair.labels):
        stat = path.stat()
        facts += [str(path.resolve()), str(stat.st_size), str(stat.st_mtime_ns)]
    return " ".join(facts)


def _read_cache(cache: Path | None) -> set[str]:
    if cache is None or not cache.is_file():
        return set()
    return set(json.loads(cache.read_text(encoding="utf-8")))


def _write_cache(cache: Path, good: set[str]) -> None:
    cache.parent.mkdir(parents=True, exist_ok=True)
    draft = cache.with_name(f".{cache.name}.{os.getpid()}")
    draft.write_text(json.dumps(sorted(good)), encoding="utf-8")
    os.replace(draft, cache)
