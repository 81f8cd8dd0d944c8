"""Points, assignment and losses: against a second computation from the formulas, in plain NumPy.

The second computation shares nothing with the first but the order in which random points are drawn.
"""

import itertools
import math

import numpy as np
import pytest
import torch

from pem_training.losses import (
    Points,
    Target,
    make_targets,
    pem_losses,
    total_loss,
)
from pem_training.matcher import cost_matrix, hungarian_match
from pem_training.point_sampling import point_sample, uncertain_points
from pemseg import Prediction

POINTS = Points(count=40, oversample=3.0, importance=0.75)
CLASSES, QUERIES = 4, 5


def make_prediction(seed: int, batch: int, earlier: int = 2) -> Prediction:
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64) * 2

    def output() -> Prediction:
        return Prediction(random(batch, QUERIES, CLASSES + 1), random(batch, QUERIES, 4, 6))

    final = output()
    return Prediction(final.logits, final.masks, tuple(output() for _ in range(earlier)))


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


def read(plane: np.ndarray, x: float, y: float) -> float:
    height, width = plane.shape
    column, row = x * width - 0.5, y * height - 0.5
    total = 0.0
    for i in (math.floor(row), math.floor(row) + 1):
        for j in (math.floor(column), math.floor(column) + 1):
            if 0 <= i < height and 0 <= j < width:
                total += plane[i, j] * (1 - abs(row - i)) * (1 - abs(column - j))
    return total


def read_all(plane: np.ndarray, points: np.ndarray) -> np.ndarray:
    return np.array([read(plane, x, y) for x, y in points])


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def entropy(x: np.ndarray, t: np.ndarray, w: np.ndarray | None = None) -> float:
    losses = -t * np.log(sigmoid(x)) - (1 - t) * np.log(1 - sigmoid(x))
    return float(np.average(losses, weights=w))


def dice(x: np.ndarray, t: np.ndarray, w: np.ndarray | float = 1) -> float:
    p, w = sigmoid(x), w * np.ones_like(x)
    return float(1 - (2 * (p * t * w).sum() + 1) / (((p + t) * w).sum() + 1))


def losses_by_hand(prediction: Prediction, labels: np.ndarray) -> dict[str, float]:
    """All losses of a batch; unlabelled pixels belong to no mask."""
    sources = generators(len(labels))
    present = [sorted(set(image.ravel().tolist()) - {0}) for image in labels]
    num_masks = max(1, sum(len(classes) for classes in present))
    result = {}
    outputs = {"": prediction} | {f"_{i}": each for i, each in enumerate(prediction.earlier)}
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
    logits: np.ndarray,
    masks: np.ndarray,
    classes: list[int],
    planes: list[np.ndarray],
    source: torch.Generator,
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


# The losses.


def test_all_losses_of_all_outputs_are_those_of_the_formulas() -> None:
    prediction, labels = make_prediction(seed=1, batch=2), make_labels()
    losses = losses_of(prediction, make_targets(labels))
    expected = losses_by_hand(prediction, labels.numpy())
    assert losses.keys() == expected.keys()
    assert {"loss_ce", "loss_dice", "loss_mask", "loss_ce_0", "loss_mask_1"} < losses.keys()
    for name, value in expected.items():
        assert float(losses[name]) == pytest.approx(value, rel=1e-9), name


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

    inputs = (start.logits, start.masks, start.earlier[0].masks)
    inputs = tuple(value.requires_grad_() for value in inputs)
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


def far_from_the_labels(masks: torch.Tensor) -> torch.Tensor:
    """The masks with other logits in the columns that no labelled point reads."""
    changed = masks.clone()
    changed[..., 4:] = -changed[..., 4:] + 1
    return changed


@pytest.mark.parametrize(("skip_unlabelled", "changes"), [(False, True), (True, False)])
def test_unlabelled_pixels_are_outside_all_masks_or_left_out(
    skip_unlabelled: bool, changes: bool
) -> None:
    labels = torch.zeros(1, 16, 24, dtype=torch.uint8)
    labels[:, :8, :12], labels[:, 8:, :12] = 1, 3  # columns 0 to 2 of the masks, and half of 3
    targets = make_targets(labels, skip_unlabelled=skip_unlabelled)
    one = make_prediction(seed=5, batch=1, earlier=0)
    other = Prediction(one.logits, far_from_the_labels(one.masks))
    before, after = losses_of(one, targets), losses_of(other, targets)
    assert (float(before["loss_mask"]) != float(after["loss_mask"])) == changes
    assert (float(before["loss_dice"]) != float(after["loss_dice"])) == changes


def test_the_order_of_targets_and_of_images_changes_nothing() -> None:
    prediction, targets = make_prediction(seed=6, batch=2, earlier=0), make_targets(make_labels())
    turned = Target(targets[0].labels[[2, 0, 1]], targets[0].masks[[2, 0, 1]])
    flipped = Prediction(prediction.logits.flip(0), prediction.masks.flip(0))
    before = losses_of(prediction, targets)
    after = pem_losses(flipped, [targets[1], turned], generators(2)[::-1], POINTS)
    for name, value in before.items():
        assert float(after[name]) == pytest.approx(float(value), rel=1e-12), name


def test_half_precision_is_added_up_in_float32() -> None:
    prediction = make_prediction(seed=8, batch=2, earlier=0)
    low = Prediction(prediction.logits.bfloat16(), prediction.masks.bfloat16())
    losses = losses_of(low, make_targets(make_labels()))
    assert {value.dtype for value in losses.values()} == {torch.float32}


# Points.


@pytest.fixture(params=["fast", "deterministic"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = request.param == "deterministic"
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: chosen)


@pytest.mark.usefixtures("way")
def test_maps_are_read_as_by_hand() -> None:
    random = np.random.default_rng(0)
    maps, points = random.normal(size=(2, 3, 5, 7)), random.random(size=(2, 11, 2))
    points[0, :3] = (0, 0), (1, 1), (0.5, 1 / 5)  # corners, and between two centres
    sampled = point_sample(torch.from_numpy(maps), torch.from_numpy(points)).numpy()
    expected = [
        [read_all(plane, places) for plane in planes]
        for planes, places in zip(maps, points, strict=True)
    ]
    np.testing.assert_allclose(sampled, expected, atol=1e-12)


@pytest.mark.usefixtures("way")
def test_the_gradient_of_reading_is_that_of_finite_differences() -> None:
    maps = torch.randn(1, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    points = torch.rand(1, 9, 2, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda values: point_sample(values, points), (maps,))


@pytest.mark.usefixtures("way")
def test_no_maps_are_read_as_nothing() -> None:
    assert point_sample(torch.zeros(0, 1, 4, 4), torch.zeros(0, 5, 2)).shape == (0, 1, 5)


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


# The assignment.


def make_case(seed: int, queries: int, objects: int) -> tuple[torch.Tensor, ...]:
    """Logits, masks at 6 points, class ids, their masks and the points' weights."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(queries, CLASSES + 1, generator=generator, dtype=torch.float64)
    masks = torch.randn(queries, 6, generator=generator, dtype=torch.float64) * 3
    ids = torch.randperm(CLASSES, generator=generator)[:objects]
    target = torch.rand(objects, 6, generator=generator, dtype=torch.float64)
    return logits, masks, ids, target, torch.tensor([1, 0, 0.5, 1, 1, 1], dtype=torch.float64)


def test_every_pairs_cost_is_that_of_the_formula() -> None:
    logits, masks, ids, target, weights = (x.numpy() for x in make_case(0, queries=5, objects=3))
    costs = cost_matrix(*make_case(0, queries=5, objects=3))
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    for q, n in itertools.product(range(5), range(3)):
        pair = masks[q], target[n], weights
        by_hand = -2 * shares[q, ids[n]] + 5 * entropy(*pair) + 5 * dice(*pair)
        assert float(costs[q, n]) == pytest.approx(by_hand, abs=1e-12)


@pytest.mark.parametrize(("queries", "objects"), [(5, 3), (4, 4), (2, 4), (6, 1)])
def test_no_other_assignment_is_cheaper(queries: int, objects: int) -> None:
    case = make_case(1, queries, objects)
    costs = cost_matrix(*case).numpy()
    chosen_queries, chosen_objects = (index.numpy() for index in hungarian_match(*case))
    count = min(queries, objects)
    assert len(set(chosen_queries)) == len(set(chosen_objects)) == count
    cheapest = min(
        sum(costs[q, n] for q, n in zip(some_queries, some_objects, strict=True))
        for some_queries in itertools.combinations(range(queries), count)
        for some_objects in itertools.permutations(range(objects), count)
    )
    assert costs[chosen_queries, chosen_objects].sum() == pytest.approx(cheapest, abs=1e-12)


def test_an_output_that_is_no_number_is_refused() -> None:
    logits, masks, *rest = make_case(0, queries=3, objects=2)
    masks[1, 2] = torch.nan
    with pytest.raises(FloatingPointError, match="must be finite"):
        hungarian_match(logits, masks, *rest)
