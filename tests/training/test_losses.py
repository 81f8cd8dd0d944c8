"""Points, assignment and losses: against a second computation from the formulas, in plain NumPy.

The second computation shares nothing with the first but the order in which random points are drawn.
"""

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch

from pem_training.losses import Points, Target, make_targets, pem_losses, total_loss
from pem_training.matcher import cost_matrix, hungarian_match
from pem_training.point_sampling import point_sample, uncertain_points
from pemseg import Prediction

POINTS = Points(count=40, oversample=3.0, importance=0.75)
CLASSES, QUERIES = 4, 5


def make_prediction(seed: int, batch: int, earlier: int = 2) -> Prediction:
    torch.manual_seed(seed)
    logits = 2 * torch.randn(1 + earlier, batch, QUERIES, CLASSES + 1, dtype=torch.float64)
    masks = 2 * torch.randn(1 + earlier, batch, QUERIES, 4, 6, dtype=torch.float64)
    return Prediction(logits[0], masks[0], tuple(map(Prediction, logits[1:], masks[1:])))


def make_labels(seed: int = 0) -> torch.Tensor:
    """Two images of 16 x 24: one with three classes and unlabelled pixels, one without any."""
    labels = torch.zeros(2, 16, 24, dtype=torch.uint8)
    blocks = np.random.default_rng(seed).choice([0, 1, 3, 4], size=(4, 6))
    labels[0] = torch.from_numpy(np.kron(blocks, np.ones((4, 4)))).to(torch.uint8)
    return labels


def generators(count: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(100 + number) for number in range(count)]


def losses_of(prediction: Prediction, targets: list[Target]) -> dict[str, torch.Tensor]:
    return pem_losses(prediction, targets, generators(len(targets)), POINTS)


# The second computation.


def read_all(plane: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Bilinearly between the centres of pixels; around the plane is zero."""
    padded, values = np.pad(plane, 1), []
    for column, row in points * plane.shape[::-1] + 0.5:
        (right, j), (low, i) = math.modf(column), math.modf(row)
        four = padded[int(i) : int(i) + 2, int(j) : int(j) + 2]
        values.append(np.array([1 - low, low]) @ four @ np.array([1 - right, right]))
    return np.array(values)


def entropy(x: np.ndarray, t: np.ndarray, w: np.ndarray | None = None) -> float:
    p = 1 / (1 + np.exp(-x))
    return float(np.average(-t * np.log(p) - (1 - t) * np.log(1 - p), weights=w))


def dice(x: np.ndarray, t: np.ndarray, w: np.ndarray | float = 1) -> float:
    p, w = 1 / (1 + np.exp(-x)), w * np.ones_like(x)
    return float(1 - (2 * (p * t * w).sum() + 1) / (((p + t) * w).sum() + 1))


def losses_by_hand(prediction: Prediction, labels: np.ndarray) -> dict[str, float]:
    """All losses of a batch; unlabelled pixels belong to no mask."""
    sources = generators(len(labels))
    present = [sorted(set(image.ravel().tolist()) - {0}) for image in labels]
    num_masks = max(1, sum(len(classes) for classes in present))
    result, outputs = {}, {"": prediction, "_0": prediction.earlier[0], "_1": prediction.earlier[1]}
    for suffix, output in outputs.items():
        ce_sum = ce_weight = mask_sum = dice_sum = 0.0
        for i, (image, classes, source) in enumerate(zip(labels, present, sources, strict=True)):
            logits, masks = output.logits[i].numpy(), output.masks[i].numpy()
            planes = [(image == label).astype(float) for label in classes]
            pairs = assign_by_hand(logits, masks, classes, planes, source)
            hard = hard_points([masks[query] for query, _ in pairs], source)
            for (query, place), points in zip(pairs, hard, strict=True):
                x, t = read_all(masks[query], points), read_all(planes[place], points)
                mask_sum, dice_sum = mask_sum + entropy(x, t), dice_sum + dice(x, t)
            class_of = {query: classes[place] - 1 for query, place in pairs}
            for query in range(QUERIES):
                shares = np.exp(logits[query]) / np.exp(logits[query]).sum()
                weight = 1.0 if query in class_of else 0.1
                ce_sum -= weight * math.log(shares[class_of.get(query, CLASSES)])
                ce_weight += weight
        result[f"loss_ce{suffix}"] = ce_sum / ce_weight
        result[f"loss_mask{suffix}"] = mask_sum / num_masks
        result[f"loss_dice{suffix}"] = dice_sum / num_masks
    return result


def assign_by_hand(
    logits: Any, masks: Any, classes: list[int], planes: list[np.ndarray], source: torch.Generator
) -> list[tuple[int, int]]:
    """Query and place in `classes` of each pair, by query, from trying all assignments."""
    points = torch.rand(1, POINTS.count, 2, generator=source)[0].double().numpy()
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    costs = np.zeros((QUERIES, len(classes)))
    for q, n in itertools.product(range(QUERIES), range(len(classes))):
        x, t = read_all(masks[q], points), read_all(planes[n], points)
        costs[q, n] = -2 * shares[q, classes[n] - 1] + 5 * entropy(x, t) + 5 * dice(x, t)
    tried = itertools.permutations(range(QUERIES), len(classes))
    best = min(tried, key=lambda some: sum(costs[q, n] for n, q in enumerate(some)))
    return sorted((query, place) for place, query in enumerate(best))


def hard_points(masks: list[np.ndarray], source: torch.Generator) -> list[np.ndarray]:
    """For each mask 30 of 120 random points, those of the least |logit|, and 10 others."""
    candidates = torch.rand(len(masks), 120, 2, generator=source).double().numpy()
    others = torch.rand(len(masks), 10, 2, generator=source).double().numpy()
    chosen = []
    for mask, some, more in zip(masks, candidates, others, strict=True):
        nearest = np.argsort(np.abs(read_all(mask, some)))[:30]
        chosen.append(np.concatenate([some[nearest], more]))
    return chosen


def test_all_losses_of_all_outputs_are_those_of_the_formulas() -> None:
    prediction, labels = make_prediction(seed=1, batch=2), make_labels()
    losses = losses_of(prediction, make_targets(labels))
    expected = losses_by_hand(prediction, labels.numpy())
    assert {name: float(loss) for name, loss in losses.items()} == pytest.approx(expected, rel=1e-9)
    assert {"loss_ce", "loss_dice", "loss_mask", "loss_ce_0", "loss_mask_1"} < losses.keys()


def test_the_total_weighs_classes_by_2_and_masks_by_5_on_every_output() -> None:
    losses = losses_of(make_prediction(seed=2, batch=2), make_targets(make_labels()))
    weights = {"ce": 2, "dice": 5, "mask": 5}
    expected = sum(weights[name.split("_")[1]] * float(value) for name, value in losses.items())
    assert float(total_loss(losses)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("skip_unlabelled", [False, True])
def test_gradients_are_those_of_finite_differences(skip_unlabelled: bool) -> None:
    start = make_prediction(seed=3, batch=2, earlier=1)
    targets = make_targets(make_labels(), skip_unlabelled=skip_unlabelled)

    def total(logits: torch.Tensor, masks: torch.Tensor, first: torch.Tensor) -> torch.Tensor:
        earlier = Prediction(start.earlier[0].logits, first)
        return total_loss(losses_of(Prediction(logits, masks, (earlier,)), targets))

    leaves = (start.logits, start.masks, start.earlier[0].masks)
    inputs = tuple(leaf.requires_grad_() for leaf in leaves)
    assert torch.autograd.gradcheck(total, inputs, fast_mode=True)  # along random directions


def test_a_batch_without_any_object_teaches_only_no_object() -> None:
    prediction = make_prediction(seed=4, batch=2, earlier=0)
    logits, masks = prediction.logits.requires_grad_(), prediction.masks.requires_grad_()
    losses = losses_of(prediction, make_targets(torch.zeros(2, 16, 24, dtype=torch.uint8)))
    values = {name: float(loss.detach()) for name, loss in losses.items()}
    no_object = -logits.detach().log_softmax(-1)[..., CLASSES]
    assert values["loss_ce"] == pytest.approx(float(no_object.mean()), rel=1e-12)
    assert values["loss_mask"] == values["loss_dice"] == 0
    total_loss(losses).backward()
    assert logits.grad is not None
    assert logits.grad.abs().sum() > 0
    assert masks.grad is not None  # zeros, not nothing: other processes wait for them
    assert masks.grad.abs().sum() == 0


@pytest.mark.parametrize(("skip_unlabelled", "changes"), [(False, True), (True, False)])
def test_unlabelled_pixels_are_outside_or_left_out(skip_unlabelled: bool, changes: bool) -> None:
    labels = torch.zeros(1, 16, 24, dtype=torch.uint8)
    labels[:, :8, :12], labels[:, 8:, :12] = 1, 3  # columns 0 to 2 of the masks, and half of 3
    targets = make_targets(labels, skip_unlabelled=skip_unlabelled)
    prediction = make_prediction(seed=5, batch=1, earlier=0)
    before = losses_of(prediction, targets)
    prediction.masks[..., 4:] *= -2  # the columns that no labelled point reads
    after = losses_of(prediction, targets)
    for name in ("loss_mask", "loss_dice"):
        assert (float(before[name]) != float(after[name])) == changes


def test_half_precision_is_added_up_in_float32() -> None:
    prediction = make_prediction(seed=8, batch=2, earlier=0)
    low = Prediction(prediction.logits.bfloat16(), prediction.masks.bfloat16())
    losses = losses_of(low, make_targets(make_labels()))
    assert {value.dtype for value in losses.values()} == {torch.float32}


@pytest.mark.parametrize("deterministic", [False, True])
def test_maps_are_read_as_by_hand(deterministic: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: deterministic)
    random = np.random.default_rng(0)
    maps, points = random.normal(size=(2, 3, 5, 7)), random.random(size=(2, 11, 2))
    points[0, :3] = (0, 0), (1, 1), (0.5, 1 / 5)  # corners, and between two centres
    sampled = point_sample(torch.from_numpy(maps), torch.from_numpy(points)).numpy()
    for image, plane in np.ndindex(2, 3):
        expected = read_all(maps[image, plane], points[image])
        np.testing.assert_allclose(sampled[image, plane], expected, atol=1e-12)
    leaf, places = torch.from_numpy(maps[:, :2]).requires_grad_(), torch.from_numpy(points)
    assert torch.autograd.gradcheck(lambda values: point_sample(values, places), (leaf,))
    assert point_sample(torch.zeros(0, 1, 4, 4), torch.zeros(0, 5, 2)).shape == (0, 1, 5)


def test_uncertain_points_gather_where_the_logit_is_zero() -> None:
    logits = torch.linspace(-4, 4, 64).expand(1, 64, 64)  # zero in the middle column
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
    points = uncertain_points(logits, 100, 3.0, 0.75, torch.Generator().manual_seed(0), valid)
    assert (points[0, :75, 0] >= 0.5).all()


@pytest.mark.parametrize(("queries", "objects"), [(5, 3), (4, 4), (2, 4), (6, 1)])
def test_costs_are_those_of_the_formula_and_least(queries: int, objects: int) -> None:
    random = np.random.default_rng(1)
    logits, masks = random.normal(size=(queries, CLASSES + 1)), random.normal(size=(queries, 6)) * 3
    ids, target = random.permutation(CLASSES)[:objects], random.random((objects, 6))
    weights = np.array([1, 0, 0.5, 1, 1, 1])
    case = tuple(map(torch.from_numpy, (logits, masks, ids, target, weights)))
    costs = cost_matrix(*case).numpy()
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    for q, n in np.ndindex(queries, objects):
        pair = masks[q], target[n], weights
        by_hand = -2 * shares[q, ids[n]] + 5 * entropy(*pair) + 5 * dice(*pair)
        assert costs[q, n] == pytest.approx(by_hand, abs=1e-12)
    chosen_queries, chosen_objects = (index.numpy() for index in hungarian_match(*case))
    count = min(queries, objects)
    assert len(set(chosen_queries)) == len(set(chosen_objects)) == count
    some_queries = itertools.combinations(range(queries), count)
    some_objects = itertools.permutations(range(objects), count)
    tried = [costs[q, n].sum() for q, n in itertools.product(some_queries, some_objects)]
    assert costs[chosen_queries, chosen_objects].sum() == pytest.approx(min(tried), abs=1e-12)
