"""Activation ranges of a graph on real images, and the clipping points for INT8.

B batch, H and W the size of the image.
"""

import math
from collections.abc import Iterable, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from pemexport import contract
from pemexport.onnx_rewrite import open_session

from .int8 import candidates

BINS = 2048
LEVELS = 128  # absolute values of INT8, zero included
STEP = 8  # bins between two clipping points that are tried
PERCENTILE = 0.9999  # of the values that are not zero

Images = Iterable[NDArray[np.uint8]]  # each (H, W, 3) RGB


class Histogram:
    """Absolute values in equal bins from zero up; the bins widen when larger values come.

    Zeros are left out: INT8 holds them exactly, and behind a ReLU they are half of all values.
    """

    def __init__(self) -> None:
        self.counts = np.zeros(BINS, np.int64)
        self.reach = 0.0  # where the last bin ends

    def add(self, values: NDArray[np.float32]) -> None:
        magnitudes = np.abs(values[values != 0])
        if not len(magnitudes):
            return
        largest = float(magnitudes.max())
        if not math.isfinite(largest):
            raise ValueError(f"values must be finite to be counted, got {largest}")
        self.reach = self.reach or largest
        while largest > self.reach:  # two old bins make a new one
            self.counts = np.append(self.counts.reshape(-1, 2).sum(1), np.zeros(BINS // 2, int))
            self.reach *= 2
        places = (magnitudes * np.float32(BINS / self.reach)).astype(np.int64)
        self.counts += np.bincount(np.minimum(places, BINS - 1), minlength=BINS)


def clip_by_percentile(histogram: Histogram) -> float:
    """The upper bound of all but a few values; 0 when nothing was counted."""
    total = histogram.counts.cumsum()
    place = int(np.searchsorted(total, PERCENTILE * total[-1]))
    return (place + 1) * histogram.reach / BINS


def clip_by_entropy(histogram: Histogram) -> float:
    """The point that loses the least relative entropy in INT8; 0 when nothing was counted."""
    counts = histogram.counts.astype(np.float64)
    points = range(LEVELS, BINS + 1, STEP)
    return min(points, key=lambda point: _entropy_lost(counts, point)) * histogram.reach / BINS


def _entropy_lost(counts: NDArray[np.float64], point: int) -> float:
    """Relative entropy of the distribution clipped at a bin to the same in LEVELS steps."""
    starts = np.arange(LEVELS) * point // LEVELS  # first bin of each step
    filled = counts[:point] > 0
    shared_by = np.maximum(np.add.reduceat(filled, starts, dtype=np.float64), 1)
    in_step = np.add.reduceat(counts[:point], starts) / shared_by
    q = np.repeat(in_step, np.diff(np.append(starts, point))) * filled
    p = np.append(counts[: point - 1], counts[point - 1 :].sum())
    p, q = p / max(p.sum(), 1), np.maximum(q / max(q.sum(), 1), 1e-12)
    seen = p > 0
    return float((p[seen] * np.log(p[seen] / q[seen])).sum())


CLIPPING = {"entropy": clip_by_entropy, "percentile": clip_by_percentile}


def clips_of(
    graph: onnx.ModelProto, images: Sequence[NDArray[np.uint8]], clipping: str
) -> dict[str, float]:
    """The largest absolute value of INT8 for the input of each layer that can be quantized."""
    layers = candidates(graph)
    inputs = sorted({node.input[0] for node in graph.graph.node if node.name in layers})
    counted = histograms(graph, inputs, images)
    return {name: CLIPPING[clipping](histogram) for name, histogram in counted.items()}


def histograms(
    model: onnx.ModelProto, names: Sequence[str], images: Images
) -> dict[str, Histogram]:
    """The absolute values of the named tensors of an FP32 graph over all images."""
    session = open_session(with_outputs(model, names))
    counted = {name: Histogram() for name in names}
    for image in images:
        values = session.run(list(names), {contract.IMAGE: image[None]})
        for name, value in zip(names, values, strict=True):
            counted[name].add(value)
    return counted


def largest_values(
    model: onnx.ModelProto, names: Sequence[str], images: Images
) -> dict[str, float]:
    """The largest absolute value of each named tensor of an FP32 graph over all images."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    maxima = [f"{name}/largest" for name in names]
    for name, maximum in zip(names, maxima, strict=True):
        watched.graph.node.append(helper.make_node("Abs", [name], [f"{name}/magnitude"]))
        watched.graph.node.append(
            helper.make_node("ReduceMax", [f"{name}/magnitude"], [maximum], keepdims=0)
        )
    session = open_session(with_outputs(watched, maxima))
    largest = np.zeros(len(names))
    for image in images:
        largest = np.maximum(largest, session.run(maxima, {contract.IMAGE: image[None]}))
    return dict(zip(names, largest.tolist(), strict=True))


def with_outputs(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    """A copy with the named FP32 tensors as its outputs."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    del changed.graph.output[:]
    changed.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names
    )
    return changed
