"""How fast this machine multiplies matrices, in each precision, in the engine that is measured.

No data sheet has it: clocks depend on the instructions, and a virtual machine has neighbors. So two
jobs are timed, a chain of large matrix products and one of convolutions; the better one counts.
"""

from collections.abc import Callable

import numpy as np
import openvino
from numpy.typing import NDArray
from openvino import opset13

from pemexport.repository_steps import openvino_core, this_processor

from .speedups import interleaved

ROUNDS = 4  # of two calls each
# What an activation and a weight reach in the INT8 jobs; the numbers do not matter to the time.
HIGHEST, WEIGHT = 6.0, 0.1

Job = Callable[[bool], tuple[openvino.Model, int]]  # INT8 or not: model, FLOP


def peak(precision: str, threads: int = 0) -> float:
    """Operations a second (a multiply-add is two) in "f32", "bf16" or "int8".

    INT8 rests on bf16 where the processor has it, as in the served step. `threads` 0 takes all.
    """
    core = openvino_core()
    floats = "f32" if precision == "f32" or not this_processor().bf16 else "bf16"
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": floats}
    if threads:
        settings["INFERENCE_NUM_THREADS"] = str(threads)
    return max(_speed(core, *job(precision == "int8"), settings) for job in JOBS.values())


def _speed(
    core: openvino.Core, model: openvino.Model, flop: int, settings: dict[str, str]
) -> float:
    """Of the median call."""
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    values = np.random.default_rng(0).random(model.input(0).shape, np.float32)
    call = {"job": lambda: request.infer({0: values})}
    seconds = interleaved(call, rounds=ROUNDS, turn_seconds=0)["job"]
    return flop / float(np.median(seconds))


def products(int8: bool, side: int = 1024, layers: int = 8) -> tuple[openvino.Model, int]:
    """A chain of products of square matrices."""
    value = start = opset13.parameter([side, side], np.float32)
    for _ in range(layers):
        weights = _weights((side, side), int8)
        value = opset13.relu(opset13.matmul(_activation(value, int8), weights, False, False))
    return _model(value, start), 2 * side**3 * layers


def convolutions(
    int8: bool, channels: int = 512, side: int = 40, layers: int = 4
) -> tuple[openvino.Model, int]:
    """A chain of 3x3 convolutions, which read what is in the cache nine times."""
    value = start = opset13.parameter([1, channels, side, side], np.float32)
    for _ in range(layers):
        weights = _weights((channels, channels, 3, 3), int8)
        around = ([1, 1], [1, 1], [1, 1], [1, 1])  # strides, padding on both sides, dilation
        value = opset13.relu(opset13.convolution(_activation(value, int8), weights, *around))
    return _model(value, start), 2 * 9 * channels**2 * side**2 * layers


JOBS: dict[str, Job] = {"matrix products": products, "convolutions": convolutions}


def _activation(value: openvino.Node, int8: bool) -> openvino.Node:
    return _rounded(value, 0.0, HIGHEST, 256) if int8 else value


def _weights(shape: tuple[int, ...], int8: bool) -> openvino.Node:
    random: NDArray[np.float32] = np.random.default_rng(1).random(shape, np.float32)
    weights = opset13.constant((2 * random - 1) * np.float32(WEIGHT))
    return _rounded(weights, -WEIGHT, WEIGHT, 255) if int8 else weights


def _rounded(value: openvino.Node, low: float, high: float, levels: int) -> openvino.Node:
    ends = (opset13.constant(np.float32(end)) for end in (low, high, low, high))
    return opset13.fake_quantize(value, *ends, levels)


def _model(value: openvino.Node, start: openvino.Node) -> openvino.Model:
    """One number out, so that writing the answer costs nothing."""
    axes = opset13.constant(np.arange(len(value.shape)))
    return openvino.Model([opset13.result(opset13.reduce_max(value, axes))], [start])
