"""Where the pairs of QuantizeLinear and DequantizeLinear stand, and what is in them."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from pemquant.int8 import candidates, int8_step, quantize, quantized_tensors


@pytest.mark.parametrize("clip", [0.0, 1e-9, 0.004, 1.0, 126.9, 8000.0])
def test_a_step_is_exact_in_half_precision_and_reaches_the_clipping_point(clip: float) -> None:
    step = int8_step(np.array(clip))
    assert step > 0
    assert np.float16(step) == step
    assert clip <= 127 * step <= max(1.02 * clip, 127 * 2**-19)


def test_parts_of_a_concatenation_have_its_step(plain: onnx.ModelProto) -> None:
    layers = candidates(plain)
    names = sorted(set(quantized_tensors(plain.graph, layers).values()))
    clips = {name: 2.0 + number / 7 for number, name in enumerate(names)}
    quantized = quantize(plain, clips, layers).graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in quantized.initializer}
    together = [n for n in quantized.node if n.op_type == "Concat" and "backbone" in n.name]
    assert together
    for node in together:
        parts = [name.removesuffix("/dequantized") for name in (*node.input, node.output[0])]
        assert len({float(constants[f"{part}/step"]) for part in parts}) == 1, node.name


def test_vectors_and_the_index_map_are_no_candidates(plain: onnx.ModelProto) -> None:
    names = set(candidates(plain))
    convolutions = {n.name for n in plain.graph.node if n.op_type.startswith("Conv")}
    left_out = convolutions - names
    assert any("conv_avg" in name for name in left_out)
    assert sum("index_map" in name for name in left_out) == 3
    assert all("avg" in name or "csm" in name or "index_map" in name for name in left_out)
