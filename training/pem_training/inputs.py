"""The images that a run is trained and measured on: found and checked before the first step."""

import hashlib
from dataclasses import dataclass

from pem_server.console import log
from pem_training.dataset import check_pairs
from pem_training.distributed import World, barrier
from pem_training.settings import Settings
from pemexport.segmentation_scores import Pair, find_pairs

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
