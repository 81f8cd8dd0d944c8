"""The activation ranges that let the CPU server compute an exported graph in INT8.

They are a JSON file beside the graph, so that one graph serves every CPU: one without INT8 ignores
them. Here they must pass the accuracy gate with the server's own network step, which runs the
examples in INT8 and is compared with the FP32 graph.
"""

import json
import tempfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from pemexport import contract
from pemexport.accuracy import AccuracyReport, Evaluation, Example, Images, evaluate_answers
from pemexport.onnx_rewrite import fold_constants
from pemexport.repository_steps import has_int8, open_network

from .accuracy_gate import AccuracyGate, Limits
from .calibration import clips_of
from .fp16 import PrecisionError
from .int8 import CHANNEL_AXIS, quantized_tensors
from .layer_search import LayerSearch

NEVER_NEGATIVE = {"Relu", "Sigmoid"}
MOVING = {"Concat", "AveragePool"}  # not negative if none of their inputs is
# 256 codes from zero up, or from -128 to 127.
LOWEST_BY_HIGHEST = -128 / 127

Ranges = dict[str, tuple[float, float]]


def write_ranges(
    path: Path,
    *,
    calibration: Sequence[NDArray[np.uint8]],
    examples: Sequence[Example],
    limits: Limits,
    clipping: str = "percentile",
) -> Path:
    """Measure the ranges of the exported graph at `path`, write them beside it; returns the file.

    `calibration` (S, S, 3) each: images as the network gets them. Layers that would exceed `limits`
    are excluded. PrecisionError, and nothing is written, if the rest exceeds them too, or if this
    CPU has no INT8 to evaluate with.
    """
    if not has_int8():
        raise PrecisionError(
            "INT8 ranges must be evaluated on a CPU with VNNI or AMX, which this one lacks; export "
            "there, or without --calibration"
        )
    graph = onnx.load(path)
    fold_constants(graph.graph)
    clips = clips_of(graph, calibration, clipping)
    gate = AccuracyGate(graph, examples, limits)

    def content(layers: Collection[str]) -> dict[str, Any]:
        facts = {entry.key: entry.value for entry in graph.metadata_props}
        ranges = ranges_of(graph.graph, clips, layers)
        return {"weights_sha256": facts["weights_sha256"], "ranges": ranges}

    def evaluate(layers: Collection[str]) -> AccuracyReport:
        return gate.compare(_evaluate_served(path, content(layers), examples))

    search = LayerSearch(graph, gate, evaluate)
    layers, accuracy = search.most_layers(clips, calibration)
    gate.require(accuracy)
    facts = {
        "calibration": {"images": len(calibration), "clipping": clipping},
        "accuracy": accuracy.as_json(),
        "left_out": search.excluded,
    }
    return _write(contract.ranges_path(path), facts | content(layers))


def ranges_of(
    graph: onnx.GraphProto, clips: Mapping[str, float], layers: Collection[str]
) -> Ranges:
    """Lowest and highest value of each tensor to be quantized, so that `layers` become INT8.

    Every convolution that reads such a tensor becomes INT8: so the inputs of other convolutions are
    excluded, even if one of `layers` reads them too.
    """
    makers = {name: node for node in graph.node for name in node.output}
    exact = {
        node.input[0]
        for node in graph.node
        if node.op_type in CHANNEL_AXIS and node.name not in layers
    }
    ranges = {}
    for name, scaled_as in quantized_tensors(graph, layers).items():
        if name not in exact:
            high = clips[scaled_as]
            low = 0.0 if _is_never_negative(name, makers) else high * LOWEST_BY_HIGHEST
            ranges[name] = (low, high)
    return ranges


def _is_never_negative(name: str, makers: Mapping[str, onnx.NodeProto]) -> bool:
    node = makers.get(name)
    if node is None or node.op_type not in MOVING:
        return node is not None and node.op_type in NEVER_NEGATIVE
    return all(_is_never_negative(source, makers) for source in node.input)


def _evaluate_served(
    path: Path, content: dict[str, Any], examples: Sequence[Example]
) -> Evaluation:
    """Run the examples through the server's network step in INT8, with these ranges."""
    with tempfile.TemporaryDirectory() as folder:
        graph = Path(folder) / "model.onnx"
        graph.symlink_to(path.resolve())
        _write(contract.ranges_path(graph), content)
        network = open_network(graph, "int8")

    def answer(images: Images) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
        class_ids, _, masks = network(images)
        return class_ids, masks

    side = onnx.load(path).graph.input[0].type.tensor_type.shape.dim[1].dim_value
    return evaluate_answers(answer, side, examples)


def _write(path: Path, content: dict[str, Any]) -> Path:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return path
