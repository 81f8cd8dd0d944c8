"""The assignment: costs against their formulas, the choice against trying all of them."""

import itertools
import math

import numpy as np
import pytest
import torch

from pem_training.matcher import cost_matrix, hungarian_match

Case = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


def make_case(seed: int, queries: int, objects: int, points: int = 6, classes: int = 4) -> Case:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(queries, classes + 1, generator=generator, dtype=torch.float64)
    masks = torch.randn(queries, points, generator=generator, dtype=torch.float64) * 3
    ids = torch.randperm(classes, generator=generator)[:objects]
    target = torch.rand(objects, points, generator=generator, dtype=torch.float64)
    return logits, masks, ids, target, torch.ones(points, dtype=torch.float64)


def cost_by_hand(
    logits: np.ndarray, mask: np.ndarray, class_id: int, target: np.ndarray, weights: np.ndarray
) -> float:
    """2 * -P[class] + 5 * mean cross-entropy + 5 * dice, of one pair."""
    probability = math.exp(logits[class_id]) / sum(math.exp(value) for value in logits)
    shares = [1 / (1 + math.exp(-x)) for x in mask]
    each = list(zip(shares, target, weights, strict=True))
    entropy = sum(-w * (t * math.log(p) + (1 - t) * math.log(1 - p)) for p, t, w in each)
    both = sum(p * t * w for p, t, w in each)
    either = sum((p + t) * w for p, t, w in each)
    dice = 1 - (2 * both + 1) / (either + 1)
    return -2 * probability + 5 * entropy / sum(weights) + 5 * dice


@pytest.mark.parametrize("weights", [[1, 1, 1, 1, 1, 1], [1, 0, 0.5, 1, 0, 1]])
def test_every_pairs_cost_is_that_of_the_formula(weights: list[float]) -> None:
    logits, masks, ids, target, _ = make_case(0, queries=5, objects=3)
    counted = torch.tensor(weights, dtype=torch.float64)
    costs = cost_matrix(logits, masks, ids, target, counted)
    assert costs.shape == (5, 3)
    for q, n in itertools.product(range(5), range(3)):
        by_hand = cost_by_hand(
            logits[q].numpy(), masks[q].numpy(), int(ids[n]), target[n].numpy(), np.array(weights)
        )
        assert float(costs[q, n]) == pytest.approx(by_hand, abs=1e-12)


@pytest.mark.parametrize(("queries", "objects"), [(5, 3), (4, 4), (2, 4), (6, 1)])
@pytest.mark.parametrize("seed", range(3))
def test_no_other_assignment_is_cheaper(queries: int, objects: int, seed: int) -> None:
    case = make_case(seed, queries, objects)
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


def test_an_image_without_objects_has_no_pairs() -> None:
    queries, objects = hungarian_match(*make_case(0, queries=5, objects=0))
    assert len(queries) == len(objects) == 0


def test_pairs_come_by_query_whatever_the_order_of_the_objects() -> None:
    logits, masks, ids, target, weights = make_case(1, queries=6, objects=4)
    queries, objects = hungarian_match(logits, masks, ids, target, weights)
    turned = torch.tensor([2, 0, 3, 1])
    again, places = hungarian_match(logits, masks, ids[turned], target[turned], weights)
    assert torch.equal(queries, again)
    assert torch.equal(objects, turned[places])
    assert queries.tolist() == sorted(queries.tolist())


def test_an_answer_that_is_no_number_is_refused() -> None:
    logits, masks, *rest = make_case(0, queries=3, objects=2)
    masks[1, 2] = torch.nan
    with pytest.raises(FloatingPointError, match="must be finite"):
        hungarian_match(logits, masks, *rest)
