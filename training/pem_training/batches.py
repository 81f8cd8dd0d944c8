"""Which images a step sees, and how they are changed: a function of seed and sample number only.

Sample number n is the n-th image a run looks at, over all steps and processes: step s of a run
with batches of B sees s * B to (s + 1) * B - 1, of which each process takes its part. So a run can
be taken up at any step without remembering anything, and the number of processes changes nothing.
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
from pem_training.dataset import Pair, read_pair
from pem_training.world import World

Batches = DataLoader[tuple[Tensor, Tensor, int]]

ORDER, CHANGES, POINTS = range(3)  # what random numbers are drawn for, each from its own stream


class Samples(Dataset[tuple[Tensor, Tensor, int]]):
    """The endless sequence of augmented images; every pass is shuffled anew."""

    def __init__(self, pairs: Sequence[Pair], how: Augmentation, seed: int) -> None:
        self.pairs, self.how, self.seed = pairs, how, seed

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor, int]:
        """Sample `number`: image (3, crop, crop) uint8, labels (crop, crop) uint8, its number."""
        turn, place = divmod(number, len(self.pairs))
        image, labels = read_pair(self.pairs[order(self.seed, turn, len(self.pairs))[place]])
        rng = np.random.default_rng((self.seed, CHANGES, number))
        pixels, marks = augment(image, labels, rng, self.how)
        return torch.from_numpy(pixels).permute(2, 0, 1), torch.from_numpy(marks), number


@lru_cache(maxsize=2)
def order(seed: int, turn: int, count: int) -> NDArray[np.int64]:
    """The order of `count` images in pass number `turn`."""
    return np.random.default_rng((seed, ORDER, turn)).permutation(count)


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
        worker_init_fn=_leave_signals_to_the_trainer,
    )


def _leave_signals_to_the_trainer(_: int) -> None:
    """What is sent to the whole process group ends the trainer, which needs its worker until then.

    The trainer itself ends a worker that hangs by SIGTERM, so that only the first is let pass.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.signal(signal.SIGTERM, signal.SIG_DFL))
