"""The search for the layers that lose accuracy in INT8."""

from collections.abc import Collection, Sequence

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from onnx_graphs import model_of, node

from pemexport import contract
from pemquant.layer_search import fewest_excluded, layer_sensitivity


@pytest.mark.parametrize(
    ("count", "needed", "excluded", "most_trials"),
    [(1, 1, 1, 1), (8, 1, 1, 1), (8, 3, 3, 4), (16, 7, 7, 6), (9, 9, 9, 5), (8, 99, 8, 4)],
    ids=["one", "the worst", "several", "more", "all", "none passes"],
)
def test_the_fewest_layers_that_pass_are_excluded(
    count: int, needed: int, excluded: int, most_trials: int
) -> None:
    ranked = [f"layer {number}" for number in range(count)]
    trials: list[int] = []

    def passes(layers: Sequence[str]) -> bool:
        trials.append(len(layers))
        return len(layers) >= needed

    assert fewest_excluded(ranked, passes) == ranked[:excluded]
    assert excluded in trials
    assert len(trials) <= most_trials


def answering(factor: int, offset: int) -> onnx.ModelProto:
    """A graph whose index map is brightness * factor + offset; query q has the class q."""
    nodes = [
        node(f"colors = Cast {contract.IMAGE}", to=TensorProto.FLOAT),
        node("brightness = ReduceMean colors axes", keepdims=0),
        node("product = Mul brightness factor"),
        node("sum = Add product offset"),
        node(f"{contract.MASKS} = Cast sum", to=TensorProto.UINT8),
        node(f"{contract.CLASS_IDS} = Identity ids"),
    ]
    constants = {"axes": np.array([3]), "ids": np.arange(256, dtype=np.int32)[None]}
    constants |= {"factor": np.array(factor, np.float32), "offset": np.array(offset, np.float32)}
    outputs = {contract.MASKS: (TensorProto.UINT8, ["n", 4, 4])}
    outputs |= {contract.CLASS_IDS: (TensorProto.INT32, [1, 256])}
    image = {contract.IMAGE: (TensorProto.UINT8, ["n", 4, 4, 3])}
    return model_of(nodes, image, outputs, constants)


def test_a_layers_sensitivity_is_the_share_of_pixels_that_it_changes() -> None:
    dark = np.zeros((4, 4, 3), np.uint8)
    striped = dark.copy()
    striped[0] = 10
    graphs = {"": (1, 0), "good": (1, 0), "poor": (2, 0), "bad": (1, 1)}

    def quantize(layers: Collection[str]) -> onnx.ModelProto:
        return answering(*graphs["".join(layers)])

    sensitivity = layer_sensitivity(quantize, ["good", "poor", "bad"], [dark, striped])
    assert list(sensitivity.items()) == [("bad", 1.0), ("poor", 0.125), ("good", 0.0)]
