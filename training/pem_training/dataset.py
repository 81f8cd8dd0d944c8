"""Labelled images as training uses them: found, checked before the first step, read upright.

The layout of the folders is in pemexport/segmentation_scores.py. Everything that can be wrong with
one is a `DataError`: one sentence for each file.
"""

import hashlib
import json
import os
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps
from tqdm import tqdm  # type: ignore[import-untyped]

from pem_server.console import log
from pem_training.distributed import World, barrier
from pem_training.settings import Settings
from pemexport.segmentation_scores import (
    DataError,
    Pair,
    find_pairs,
    label_array,
    raise_faults,
    read_labels,
)

CHECKED = "checked-images.json"  # in the output folder: what need not be checked again


@dataclass(frozen=True)
class Inputs:
    """Pairs to train on, and pairs to measure on."""

    training: list[Pair]
    validation: list[Pair]

    @property
    def digest(self) -> str:
        """A short text that changes with the names or the number of the training images."""
        names = "\n".join(pair.image.name for pair in self.training)
        return f"{len(self.training)}-{hashlib.sha256(names.encode()).hexdigest()[:12]}"


def find_inputs(settings: Settings, classes: int, world: World) -> Inputs:
    """All pairs of the run. Raises DataError naming every file that cannot be used.

    The first process checks them, the others wait for it.
    """
    training = find_pairs(settings.data, "training")
    validation = find_pairs(settings.data, "validation") if settings.eval_every else []
    if world.is_first:
        check_pairs([*training, *validation], classes, settings.output / CHECKED)
        log(f"{len(training)} images to train on, {len(validation)} to measure on")
    barrier()
    return Inputs(training, validation)


def progress_bar(items: Iterable[Any], text: str, total: int, **options: Any) -> "tqdm[Any]":
    """`items`, counted to `total` on stderr: lively in a terminal, a line now and then in a log."""
    interval = 0.2 if sys.stderr.isatty() else 30.0  # seconds
    return tqdm(items, text, total, mininterval=interval, dynamic_ncols=True, **options)


def read_pair(pair: Pair) -> tuple[Image.Image, Image.Image]:
    """The image, upright RGB, and its labels, mode L or P; DataError if they cannot be used."""
    image = read_image(pair.image)
    return image, read_labels(pair.labels, image.size)


def read_image(path: Path) -> Image.Image:
    """The image at its full size: EXIF orientation applied, RGB."""
    try:
        with Image.open(path) as image:
            image.load()
            return ImageOps.exif_transpose(image).convert("RGB")
    except Exception as error:  # decoders raise nearly any type on damaged bytes
        raise DataError(f"{path} must be a whole image, but cannot be read: {error}") from error


def check_pairs(pairs: Sequence[Pair], classes: int, cache: Path | None = None) -> None:
    """Read every file and raise DataError naming those that cannot be used.

    `classes`: the greatest label allowed. `cache` is a file that remembers which pairs were good,
    by name, size and time of change, so that a second check takes no time.
    """
    known = _read_cache(cache)
    fingerprints = {_fingerprint(pair, classes): pair for pair in pairs}
    unknown = {key: pair for key, pair in fingerprints.items() if key not in known}
    if not unknown:
        return
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # decoders release Python's lock
        results = pool.map(lambda pair: _fault(pair, classes), unknown.values())
        faults = list(progress_bar(results, "checking images", len(unknown), leave=False))
    good = {key for key, fault in zip(unknown, faults, strict=True) if fault is None}
    if cache is not None:
        _write_cache(cache, known | good)
    raise_faults([fault for fault in faults if fault is not None])


def _fault(pair: Pair, classes: int) -> str | None:
    """The sentence about what is wrong with a pair, if anything is."""
    try:
        label_array(pair.labels, read_pair(pair)[1], classes)
    except DataError as error:
        return str(error)
    return None


def _fingerprint(pair: Pair, classes: int) -> str:
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
