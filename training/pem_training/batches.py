"""Which images a step is given, and how they are augmented: a function of seed and sample number.

Sample number n is the n-th image of a run, over all steps and processes: step s of a run
with batches of B sees s * B to (s + 1) * B - 1, of which each process takes its part. So a run can
be resumed at any step without any further state, and the number of processes changes nothing.
"""

import signal
from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pem_training.augmentation import Augmentation, augment
from pem_training.dataset import read_pair
from pem_training.distributed import World
from pemexport.segmentation_scores import Pair

Batches = DataLoader[tuple[Tensor, Tensor, int]]

ORDER, AUGMENTATION, POINTS = range(3)  # one stream of random numbers for each purpose


class Samples(Dataset[tuple[Tensor, Tensor, int]]):
    """The endless sequence of augmented images; every pass is shuffled anew."""

    def __init__(self, pairs: Sequence[Pair], how: Augmentation, seed: int) -> None:
        self.pairs, self.how, self.seed = pairs, how, seed

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor, int]:
        """Sample `number`: image (3, crop, crop) uint8, labels (crop, crop) uint8, its number."""
        epoch, index = divmod(number, len(self.pairs))
        image, labels = read_pair(self.pairs[order(self.seed, epoch, len(self.pairs))[index]])
        rng = np.random.default_rng((self.seed, AUGMENTATION, number))
        pixels, labels_crop = augment(image, labels, rng, self.how)
        return torch.from_numpy(pixels).permute(2, 0, 1), torch.from_numpy(labels_crop), number


@lru_cache(maxsize=2)
def order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    """The order of `count` images in pass number `epoch`."""
    return np.random.default_rng((seed, ORDER, epoch)).permutation(count)


def point_generators(numbers: Tensor, seed: int, device: torch.device) -> list[torch.Generator]:
    """The source of each sample's random points in the losses."""
    generators = []
    for number in numbers.tolist():
        state = np.random.SeedSequence((seed, POINTS, number)).generate_state(1, np.uint64)[0]
        generators.append(torch.Generator(device).manual_seed(int(state >> np.uint64(1))))
    return generators


class Steps:
    """The sample numbers of each step that is still to do, for one process."""

    def __init__(self, first: int, end: int, batch: int, world: World) -> None:
        self.first, self.end, self.batch, self.world = first, end, batch, world

    def __iter__(self) -> Iterator[list[int]]:
        share = self.batch // self.world.size
        for step in range(self.first, self.end):
            start = step * self.batch + self.world.rank * share
            yield list(range(start, start + share))

    def __len__(self) -> int:
        return self.end - self.first


def load_batches(samples: Samples, steps: Steps, workers: int, *, pinned: bool) -> Batches:
    """Batches of images (B, 3, crop, crop), labels (B, crop, crop) and numbers (B,), in order."""
    return DataLoader(
        samples,
        batch_sampler=steps,
        num_workers=workers,
        pin_memory=pinned,
        worker_init_fn=_ignore_signals,
    )


def _ignore_signals(_: int) -> None:
    """A signal to the whole process group stops the trainer, which needs its workers until then.

    The trainer itself ends a worker that hangs by a SIGTERM, so that only the first is ignored.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.signal(signal.SIGTERM, signal.SIG_DFL))
