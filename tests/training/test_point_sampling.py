"""Reading maps at points: against a bilinear interpolation written out by hand."""

import numpy as np
import pytest
import torch

from pem_training.point_sampling import point_sample, random_points, uncertain_points


def read_by_hand(plane: np.ndarray, x: float, y: float) -> float:
    """Bilinear interpolation between pixel centres, with zeros around the map."""
    height, width = plane.shape
    column, row = x * width - 0.5, y * height - 0.5
    total = 0.0
    for i in (int(np.floor(row)), int(np.floor(row)) + 1):
        for j in (int(np.floor(column)), int(np.floor(column)) + 1):
            if 0 <= i < height and 0 <= j < width:
                total += plane[i, j] * (1 - abs(row - i)) * (1 - abs(column - j))
    return total


@pytest.fixture(params=["fast", "deterministic"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = request.param == "deterministic"
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: chosen)


@pytest.mark.usefixtures("way")
def test_maps_are_read_as_by_hand() -> None:
    random = np.random.default_rng(0)
    maps, points = random.normal(size=(2, 3, 5, 7)), random.random(size=(2, 11, 2))
    points[0, :3] = (0, 0), (1, 1), (0.5, 1 / 5)  # corners, and between two centres
    read = point_sample(torch.from_numpy(maps), torch.from_numpy(points)).numpy()
    expected = [
        [[read_by_hand(plane, x, y) for x, y in places] for plane in planes]
        for planes, places in zip(maps, points, strict=True)
    ]
    np.testing.assert_allclose(read, expected, atol=1e-12)


@pytest.mark.usefixtures("way")
def test_the_gradient_of_reading_is_that_of_finite_differences() -> None:
    maps = torch.randn(1, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    points = torch.rand(1, 9, 2, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda values: point_sample(values, points), (maps,))


@pytest.mark.usefixtures("way")
def test_no_maps_are_read_as_nothing() -> None:
    assert point_sample(torch.zeros(0, 1, 4, 4), torch.zeros(0, 5, 2)).shape == (0, 1, 5)


def test_random_points_fill_the_image_and_repeat_with_their_generator() -> None:
    first, again = (random_points(2, 1000, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first, again)
    assert first.shape == (2, 1000, 2)
    assert 0 <= first.min() < 0.01
    assert 0.99 < first.max() < 1


def test_uncertain_points_gather_where_the_logit_is_zero() -> None:
    columns = torch.linspace(-4, 4, 64)  # zero in the middle of the image
    logits = columns.expand(1, 64, 64)
    points = uncertain_points(logits, 400, 3.0, 0.75, torch.Generator().manual_seed(0))
    assert points.shape == (1, 400, 2)
    distance = (points[0, :, 0] - 0.5).abs()
    # 300 of 1,200 candidates: the quarter nearest to the middle, at most 1/8 away from it, and a
    # few at the very border, where maps fall off to zero.
    assert distance[:300].quantile(0.95) == pytest.approx(0.125, abs=0.02)
    assert distance[300:].max() > 0.45  # the rest is anywhere


def test_points_that_do_not_count_are_not_chosen_for_their_uncertainty() -> None:
    valid = torch.zeros(32, 32, dtype=torch.bool)
    valid[:, 16:] = True  # the right half; the left one is perfectly uncertain
    logits = torch.where(torch.arange(8) < 4, 0.0, 3.0).expand(1, 8, 8)
    generator = torch.Generator().manual_seed(0)
    points = uncertain_points(logits, 100, 3.0, 0.75, generator, valid)
    assert (points[0, :75, 0] >= 0.5).all()
