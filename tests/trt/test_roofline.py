"""The least time on a device: by hand for one convolution, and for the graph that is served."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from onnx_graphs import model_of, node

from pemexport import contract
from pemtrt.roofline import OTHER, Device, images_per_second, parts, roofline

DEVICE = Device("slow", {"fp32": 1e6, "fp16": 2e6, "int8": 4e6}, bandwidth=1e4)
MULTIPLY_ADDS = 8 * 8 * 8 * 4 * 9  # of one image
READ, WEIGHTS, WRITTEN = 4 * 8 * 8, 8 * 4 * 9, 8 * 8 * 8


@pytest.fixture
def convolution() -> onnx.ModelProto:
    conv = node("y = Conv image w", "/one", pads=[1] * 4)
    ends = [
        {name: (TensorProto.FLOAT, ["batch", channels, 8, 8])}
        for name, channels in (("image", 4), ("y", 8))
    ]
    return model_of([conv], *ends, {"w": np.zeros((8, 4, 3, 3), np.float32)}, opset=17)


@pytest.mark.parametrize(
    ("precision", "width", "peak"),
    [("fp32", 4, 1e6), ("fp16", 2, 2e6), ("int8", 1, 4e6), ("as-exported", 4, 1e6)],
)
def test_a_kernel_takes_its_arithmetic_or_its_bytes_whichever_is_longer(
    convolution: onnx.ModelProto, precision: str, width: int, peak: float
) -> None:
    (cost,) = roofline(convolution, 3, precision, DEVICE)
    assert cost.flop == 2 * 3 * MULTIPLY_ADDS
    assert cost.bytes == width * (3 * READ + WEIGHTS + 3 * WRITTEN)
    assert cost.arithmetic_seconds == pytest.approx(cost.flop / peak)
    assert cost.memory_seconds == pytest.approx(cost.bytes / 1e4)
    assert cost.seconds == max(cost.arithmetic_seconds, cost.memory_seconds)
    assert images_per_second([cost, cost], 3) == pytest.approx(3 / (2 * cost.seconds))


def test_a_section_sums_its_kernels_for_one_image(convolution: onnx.ModelProto) -> None:
    (cost,) = roofline(convolution, 4, "fp16", DEVICE)
    (part,) = parts([cost, cost], 4)
    assert (part.section, part.kernels, part.memory_bound) == (OTHER, 2, 1.0)
    assert part.microseconds == pytest.approx(2 * cost.seconds / 4 * 1e6)
    assert part.megabytes == pytest.approx(2 * cost.bytes / 4 / 1e6)
    assert parts([], 4) == []


def test_every_kernel_of_the_served_graph_has_its_section_and_the_known_cost() -> None:
    costs = roofline(onnx.load(contract.ONNX_PATH), 8, "fp16")
    assert [cost.name for cost in costs if cost.section == OTHER] == []
    # 37.2 GFLOP an image; the index map at full size adds a little where convolutions make it.
    assert 37.0e9 < sum(cost.flop for cost in costs) / 8 < 37.5e9
    assert images_per_second(costs, 8) == pytest.approx(551, abs=1)  # as docs/tensorrt.md states
    weights = sum(np.prod(t.dims) for t in onnx.load(contract.ONNX_PATH).graph.initializer)
    assert sum(cost.bytes for cost in costs) > 2 * weights
