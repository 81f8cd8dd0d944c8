"""Write the FP16 and INT8 variants of an exported graph, each only if it passes the accuracy gate.

In the INT8 variant, the layers that lose too much accuracy stay in FP16, as few as possible.
"""

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from pem_server.console import log
from pemexport.accuracy import AccuracyReport, Example
from pemexport.onnx_rewrite import float_tensors, fold_constants, replace_when_done

from .accuracy_gate import AccuracyGate, Limits
from .calibration import clips_of, largest_values
from .fp16 import HALF, HALF_LIMIT, PrecisionError, node_kinds, to_half
from .int8 import quantize
from .layer_search import LayerSearch

RANGE_MARGIN = 8  # for partial sums, larger than their result, and for unseen images

Images = Sequence[NDArray[np.uint8]]  # each (S, S, 3), as the network gets them


def write_variant(
    model: onnx.ModelProto,
    precision: str,
    target: Path,
    *,
    calibration: Images,
    examples: Sequence[Example],
    limits: Limits,
    clipping: str = "percentile",
) -> Path:
    """Write the "fp16" or "int8" variant of an exported FP32 graph and a report; returns `target`.

    The report is `target` with the suffix .json. Raises PrecisionError, and leaves both files as
    they were, if the variant loses more than `limits` or could overflow FP16.
    """
    graph = onnx.ModelProto()
    graph.CopyFrom(model)
    fold_constants(graph.graph)
    largest = checked_fp16_values(graph, calibration)
    gate = AccuracyGate(graph, examples, limits)
    details: dict[str, Any] = {}
    if precision == "fp16":
        variant = to_half(graph)
        accuracy = gate.evaluate(variant)
    else:
        variant, accuracy, details = search_int8(graph, gate, calibration, clipping)
    gate.require(accuracy)
    report = {
        "precision": precision,
        "limit": {"loss": limits.loss, "pixel_agreement": 100 * limits.agreement},
        **accuracy.as_json(),
        **details,
        "largest_values": largest,
    }
    variant.metadata_props.add(key="precision", value=precision)
    onnx.checker.check_model(variant, full_check=True)
    with replace_when_done(target) as draft:
        onnx.save(variant, draft)
        text = json.dumps(report, indent=1) + "\n"
        draft.with_suffix(".json").write_text(text, encoding="utf-8")
    return target


def checked_fp16_values(graph: onnx.ModelProto, images: Images) -> dict[str, float]:
    """The largest absolute value of every tensor that is stored in FP16, largest first.

    PrecisionError if one comes too close to the limit of FP16.
    """
    floats = float_tensors(graph)
    kinds = node_kinds(graph.graph, floats)
    computed = {
        name
        for node, kind in zip(graph.graph.node, kinds, strict=True)
        for name in node.output
        if kind == HALF and name in floats
    }
    casts = (node for node in to_half(graph).graph.node if node.op_type == "Cast")
    rounded = {node.input[0] for node in casts if node.attribute[0].i == HALF}
    values = largest_values(graph, sorted(computed | rounded), images)
    ranked = dict(sorted(values.items(), key=lambda item: -item[1]))
    name, largest = next(iter(ranked.items()))
    log(f"largest value in FP16: {largest:.1f}, in {name}")
    if not largest <= HALF_LIMIT / RANGE_MARGIN:
        raise PrecisionError(
            f"{name} reaches {largest:g}, more than {HALF_LIMIT / RANGE_MARGIN:g}, an eighth of "
            "the FP16 range; use --precision fp32; nothing was written"
        )
    return ranked


def search_int8(
    graph: onnx.ModelProto, gate: AccuracyGate, images: Images, clipping: str
) -> tuple[onnx.ModelProto, AccuracyReport, dict[str, Any]]:
    """The variant with the most INT8 layers that passes, its accuracy, and details of the search.

    If none passes, the one without any, which the caller has to refuse.
    """
    clips = clips_of(graph, images, clipping)

    def variant(layers: Collection[str]) -> onnx.ModelProto:
        return to_half(quantize(graph, clips, layers))

    search = LayerSearch(graph, gate, lambda layers: gate.evaluate(variant(layers)))
    layers, accuracy = search.most_layers(clips, images)
    details = {
        "calibration": {"images": len(images), "clipping": clipping},
        "int8_layers": layers,
        "fp16_layers": search.excluded,
        "trials": {str(count): report.as_json() for count, report in search.trials()},
        "sensitivity": {layer: 100 * share for layer, share in search.sensitivity.items()},
    }
    return variant(layers), accuracy, details
