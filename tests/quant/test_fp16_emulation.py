"""What stands in for a GPU: every rounding happens, and INT8 is integer arithmetic."""

import numpy as np
import onnx
from onnx import TensorProto
from onnx_graphs import model_of, node

from pemexport.onnx_rewrite import open_session
from pemquant.fp16_emulation import emulate_fp16
from pemquant.int8 import int8_step, quantize

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16


def graph_of(nodes: list[onnx.NodeProto], **constants: np.ndarray) -> onnx.ModelProto:
    """x (n, 2, 4, 4) float32 through the nodes to y."""
    end = (FLOAT, ["n", 2, 4, 4])
    return model_of(nodes, {"x": end}, {"y": end}, constants)


def run(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    return open_session(model).run(None, {"x": x})[0]


def test_what_half_precision_cannot_hold_is_lost_between_two_operations() -> None:
    nodes = [node("a = Cast x", to=HALF), node("b = Add a one"), node("c = Sub b one")]
    nodes.append(node("y = Cast c", to=FLOAT))
    x = np.geomspace(2**-13, 4, 32, dtype=np.float32).reshape(1, 2, 4, 4)
    model = graph_of(nodes, one=np.array([1], np.float16))
    expected = (x.astype(np.float16) + np.float16(1)) - np.float16(1)
    np.testing.assert_array_equal(run(emulate_fp16(model), x), expected.astype(np.float32))
    assert (expected != x).any()


def test_an_int8_convolution_is_the_integer_one() -> None:
    random = np.random.default_rng(1)
    weight = random.normal(size=(2, 2, 1, 1)).astype(np.float32)
    x = (random.normal(size=(1, 2, 4, 4)) * 2).astype(np.float32)
    nodes = [node("r = Relu x"), node("y = Conv r w", "layer")]
    found = run(quantize(graph_of(nodes, w=weight), {"r": 1.5}, ["layer"]), x)
    step = int8_step(np.array(1.5))
    steps = int8_step(np.abs(weight).max(axis=(1, 2, 3)))
    codes = np.clip(np.rint(np.maximum(x, 0) / step), -128, 127).astype(np.int64)
    weight_codes = np.rint(weight[:, :, 0, 0] / steps[:, None]).astype(np.int64)
    sums = np.einsum("oc,nchw->nohw", weight_codes, codes)  # (1, 2, 4, 4), exact
    expected = sums * (steps[:, None, None] * step).astype(np.float64)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert codes.max() == 127  # some were clipped
