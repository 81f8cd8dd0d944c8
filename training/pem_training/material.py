"""What a run learns from and is measured on: found, drawn and checked before the first step."""

import hashlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pem_training.dataset import Pair, check_pairs, find_pairs
from pem_training.progress import bar, say
from pem_training.scenes import write_scenes
from pem_training.settings import Settings
from pem_training.world import World, wait_for_all

CHECKED = "checked-images.json"  # in the output folder: what need not be checked again


@dataclass(frozen=True)
class Material:
    """Pairs to learn from, photographs before drawn scenes, and pairs to measure on."""

    training: list[Pair]
    validation: list[Pair]

    @property
    def digest(self) -> str:
        """A short text that changes with the names or the number of the images learnt from."""
        names = "\n".join(pair.image.name for pair in self.training)
        return f"{len(self.training)}-{hashlib.sha256(names.encode()).hexdigest()[:12]}"


def gather_material(settings: Settings, classes: int, world: World) -> Material:
    """All pairs of the run. Raises DataError naming every file that cannot be used.

    The first process draws and checks, the others wait for it.
    """
    drawn = settings.output / "-".join(["scenes", *settings.scene_labels])
    training = find_pairs(settings.data, "training")
    validation = find_pairs(settings.data, "validation") if settings.eval_every else []
    if world.is_first:
        check_pairs([*training, *validation], classes, settings.output / CHECKED)
        if settings.scenes:
            draw_scenes(drawn, settings.scenes, settings.renumber)
            check_pairs(find_pairs(drawn, "training"), classes, settings.output / CHECKED)
    wait_for_all()
    if settings.scenes:
        training += find_pairs(drawn, "training")[: settings.scenes]
    if world.is_first:
        say(f"{len(training)} images to learn from, {len(validation)} to measure on")
    return Material(training, validation)


def draw_scenes(folder: Path, count: int, renumber: Mapping[int, int] | None = None) -> None:
    """Have at least `count` drawn scenes in `folder`: all of them or, if interrupted, none."""
    if folder.is_dir() and len(find_pairs(folder, "training")) >= count:
        return
    draft = folder.with_name(f".{folder.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    for seed in bar(range(count), "drawing scenes", count, leave=False):
        write_scenes(draft, "training", 1, seed, renumber)
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(draft, folder)
