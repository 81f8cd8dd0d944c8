"""How far INT8 reaches, from what was counted."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from onnx_graphs import model_of, node

from pemexport import contract
from pemquant.calibration import (
    BINS,
    Histogram,
    clip_by_entropy,
    clip_by_percentile,
    histograms,
    largest_values,
)


def counted(*parts: np.ndarray) -> Histogram:
    histogram = Histogram()
    for part in parts:
        histogram.add(part.astype(np.float32))
    return histogram


@pytest.mark.parametrize(
    ("values", "least", "most"),
    [
        (np.zeros(0), 0, 0),
        (np.zeros(10), 0, 0),
        (np.linspace(0, 3, 100_000), 2.9, 3.01),
        (-np.linspace(0, 3, 100_000), 2.9, 3.01),
        (np.append(np.random.default_rng(0).normal(size=100_000), [60.0]), 1.5, 8),
        (np.concatenate([np.zeros(10**6), np.linspace(0.001, 1, 10**4), [100.0]]), 0.9, 1.2),
    ],
    ids=["nothing", "zeros", "even", "negative", "an outlier", "beside zeros"],
)
def test_the_clipping_point_leaves_out_the_outlier_and_nothing_more(
    values: np.ndarray, least: float, most: float
) -> None:
    assert least <= clip_by_percentile(counted(values)) <= most


@pytest.mark.parametrize(
    ("values", "least", "most"),
    [
        (np.zeros(10), 0, 0),
        (np.linspace(0, 3, 100_000), 2.9, 3.01),
        (np.append(np.random.default_rng(0).normal(size=100_000), [60.0]), 3.7, 8),
    ],
    ids=["zeros", "even", "an outlier"],
)
def test_the_entropy_leaves_out_the_outlier_in_steps_of_whole_bins(
    values: np.ndarray, least: float, most: float
) -> None:
    assert least <= clip_by_entropy(counted(values)) <= most


def test_larger_values_later_widen_the_bins_and_lose_no_count() -> None:
    later = counted(np.full(5, 1.0), np.full(7, 3.9))
    assert later.counts.sum() == 12
    assert later.reach == 4.0
    assert later.counts[BINS // 4 - 1] == 5
    assert later.counts[int(3.9 / 4 * BINS)] == 7


def test_values_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="inf"):
        counted(np.array([1.0, np.inf]))


def test_a_graph_is_watched_over_all_images() -> None:
    nodes = [node(f"a = Cast {contract.IMAGE}", to=TensorProto.FLOAT), node("b = Neg a")]
    shape = ["n", 2, 2, 3]
    ends = {contract.IMAGE: (TensorProto.UINT8, shape)}, {"c": (TensorProto.FLOAT, shape)}
    model = model_of([*nodes, node("c = Identity b")], *ends, {})
    images = [np.full((2, 2, 3), value, np.uint8) for value in (3, 200, 9)]
    assert largest_values(model, ["a", "b"], images) == {"a": 200.0, "b": 200.0}
    assert histograms(model, ["b"], images)["b"].counts.sum() == 3 * 12
    assert [value.name for value in model.graph.output] == ["c"]
    onnx.checker.check_model(model)
