"""Random scale, crop, flip and colors, and the order in which images come."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pem_training.augmentation import PIXEL_MEAN, Augmentation, augment
from pem_training.batches import Samples, Steps, load_batches, order, point_generators
from pem_training.color import STRENGTHS
from pem_training.distributed import World
from pemexport.segmentation_scores import find_pairs

MakeFolder = Callable[..., Path]
PLAIN = Augmentation(crop=64, scale=(0.5, 2.0), short_side=0, color="none")


def ramp(height: int = 90, width: int = 120) -> tuple[Image.Image, Image.Image]:
    """An image whose red is the column and green the row; labels change every 10 pixels."""
    rows, columns = np.mgrid[:height, :width].astype(np.uint8)
    labels = (1 + columns // 10 + 12 * (rows // 10)).astype(np.uint8)
    return Image.fromarray(np.dstack([columns, rows, 0 * rows])), Image.fromarray(labels)


@pytest.mark.parametrize("seed", range(6))
def test_labels_stay_with_their_pixels(seed: int) -> None:
    how = Augmentation(64, (0.5, 2.0), 0, 0.3, "none")
    pixels, labels = augment(*ramp(), np.random.default_rng(seed), how)
    assert (pixels.shape, labels.shape) == ((64, 64, 3), (64, 64))
    inside = labels > 0
    # Red and green say where in the image a pixel is from, and so what its label must be.
    columns, rows = pixels[..., 0][inside].astype(int), pixels[..., 1][inside].astype(int)
    expected = 1 + columns // 10 + 12 * (rows // 10)
    assert (expected == labels[inside]).mean() > 0.8


@pytest.mark.parametrize(
    ("low", "high", "overhang", "is_padded"),
    [(0.4, 1.2, 0.0, True), (1.5, 2.0, 0.0, False), (1.5, 2.0, 0.5, True)],
)
def test_padding_is_the_pixel_mean_without_labels_right_and_below(
    low: float, high: float, overhang: float, is_padded: bool
) -> None:
    how = Augmentation(64, (low, high), 0, overhang, "ssd")
    padded = 0
    for seed in range(20):
        pixels, labels = augment(*ramp(), np.random.default_rng(seed), how)
        height, width = (labels > 0).any(1).sum(), (labels > 0).any(0).sum()
        assert (labels[:height, :width] > 0).all()
        assert (pixels[labels == 0] == PIXEL_MEAN).all()
        padded += height < 64 or width < 64
    assert (0 < padded < 20) if is_padded else padded == 0


def test_the_short_side_decides_the_scale_when_given() -> None:
    how = Augmentation(64, (1.0, 1.0), 45, 0.0, "none")
    _, labels = augment(*ramp(90, 120), np.random.default_rng(0), how)
    assert ((labels > 0).any(1).sum(), (labels > 0).any(0).sum()) == (45, 60)


def test_half_of_the_images_are_mirrored() -> None:
    how = Augmentation(64, (0.4, 0.4), 0, 0.0, "none")
    left = [augment(*ramp(), np.random.default_rng(seed), how)[0][0, 0, 0] for seed in range(100)]
    assert 35 <= sum(column < 60 for column in left) <= 65


@pytest.mark.parametrize(("name", "least"), [("none", 0), ("ssd", 10), ("strong", 15)])
def test_colors_change_as_much_as_the_name_says(name: str, least: float) -> None:
    image, _ = ramp()
    changed = [STRENGTHS[name](image, np.random.default_rng(seed)) for seed in range(40)]
    changes = [np.abs(np.asarray(each, int) - np.asarray(image, int)).mean() for each in changed]
    assert least <= np.mean(changes) < 90
    assert (np.mean(changes) == 0) == (name == "none")


def test_every_pass_shows_every_image_once_in_another_order() -> None:
    passes = [order(7, turn, 20).tolist() for turn in range(3)]
    assert all(sorted(each) == list(range(20)) for each in passes)
    assert len({tuple(each) for each in passes}) == 3


def test_the_parts_of_all_processes_make_the_batch_of_one() -> None:
    alone = list(Steps(2, 5, 8, World()))
    parts = [list(Steps(2, 5, 8, World(rank=rank, size=2))) for rank in range(2)]
    assert alone == [first + second for first, second in zip(*parts, strict=True)]
    assert alone[0] == list(range(16, 24))  # two steps are done: they had 16 images
    assert len(Steps(2, 5, 8, World())) == 3


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_worker_processes_change_nothing(make_folder: MakeFolder) -> None:
    samples = Samples(find_pairs(make_folder(training=3), "training"), PLAIN, seed=4)
    steps = Steps(1, 3, 2, World())
    alone, helped = (list(load_batches(samples, steps, n, pinned=False)) for n in (0, 1))
    for one, other in zip(alone, helped, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert [value.shape for value in alone[0]] == [(2, 3, 64, 64), (2, 64, 64), (2,)]
    assert [numbers.tolist() for _, _, numbers in alone] == [[2, 3], [4, 5]]


def test_an_image_changes_by_pass_but_not_by_run(make_folder: MakeFolder) -> None:
    pairs = find_pairs(make_folder(training=1), "training")
    run, again, other = (Samples(pairs, PLAIN, seed) for seed in (1, 1, 2))
    assert torch.equal(run[5][0], again[5][0])
    assert not torch.equal(run[5][0], other[5][0])
    assert len({run[number][0].numpy().tobytes() for number in range(8)}) == 8


def test_random_points_belong_to_the_sample_not_to_its_batch() -> None:
    numbers, cpu = torch.tensor([3, 4, 5]), torch.device("cpu")
    together = [torch.rand(2, generator=g).tolist() for g in point_generators(numbers, 0, cpu)]
    alone = [torch.rand(2, generator=g).tolist() for g in point_generators(numbers[1:2], 0, cpu)]
    assert together[1] == alone[0]
    assert together[0] != together[1] != together[2]
