"""Where the pairs of QuantizeLinear and DequantizeLinear stand, and what is in them."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from pemquant.fp16 import to_half
from pemquant.int8 import candidates, int8_step, quantize, quantized_tensors

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")


def constants_of(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


@pytest.fixture
def plain(exported: Callable[..., onnx.ModelProto]) -> onnx.ModelProto:
    return exported()


@pytest.fixture
def quantized(plain: onnx.ModelProto) -> onnx.ModelProto:
    """All candidates in INT8, the rest typed."""
    layers = candidates(plain)
    names = quantized_tensors(plain.graph, layers).values()
    clips = {name: 2.0 + number / 7 for number, name in enumerate(sorted(set(names)))}
    return to_half(quantize(plain, clips, layers))


@pytest.mark.parametrize("clip", [0.0, 1e-9, 0.004, 1.0, 126.9, 8000.0])
def test_a_step_is_exact_in_half_precision_and_reaches_the_clipping_point(clip: float) -> None:
    step = int8_step(np.array(clip))
    assert step > 0
    assert np.float16(step) == step
    assert clip <= 127 * step <= max(1.02 * clip, 127 * 2**-19)


def test_the_graph_stays_valid_and_every_zero_point_is_zero(quantized: onnx.ModelProto) -> None:
    onnx.checker.check_model(quantized, full_check=True)
    constants = constants_of(quantized)
    pairs = [n for n in quantized.graph.node if n.op_type.endswith("izeLinear")]
    assert len(pairs) > 100
    for node in pairs:
        assert constants[node.input[1]].dtype == np.float16
        for name in node.input[2:]:
            assert constants[name].dtype == np.int8
            assert not constants[name].any()


def test_parts_of_a_concatenation_have_its_step(quantized: onnx.ModelProto) -> None:
    constants = constants_of(quantized)
    together = [n for n in quantized.graph.node if n.op_type == "Concat" and "backbone" in n.name]
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


def test_a_layer_that_is_left_out_reads_and_computes_what_it_did(plain: onnx.ModelProto) -> None:
    first, second = candidates(plain)[:2]
    changed = quantize(plain, {n.input[0]: 2.0 for n in plain.graph.node}, [second])
    same = next(n for n in changed.graph.node if n.name == first)
    assert same == next(n for n in plain.graph.node if n.name == first)
    assert sum(n.op_type == "QuantizeLinear" for n in changed.graph.node) == 1
