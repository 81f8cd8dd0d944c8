"""The FP16 and INT8 forms of an exported graph, each put in place only by its judge.

The judge compares a form with the FP32 graph: loss of mIoU where the examples have labels,
agreement of the class maps where not. INT8 that loses too much gives its worst layers back to FP16,
the fewest that make it pass.
"""

import json
import os
import sys
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from pemexport.accuracy import Example, Reading, Verdict, read
from pemexport.onnx_rewrite import float_tensors, fold_constants

from .calibration import CLIPPING, histograms, largest_values
from .fp16 import HALF, HALF_LIMIT, node_kinds, to_half
from .fp16_emulation import simulated
from .int8 import candidates, quantise
from .sensitivity import damage_of_each, fewest_kept

RANGE_MARGIN = 8  # for partial sums, larger than their result, and for images yet to come
RANKING_IMAGES = 4  # of those to calibrate with; each layer alone runs on every one


class FormError(RuntimeError):
    """A form that must not be used; the message says why."""


@dataclass(frozen=True)
class Limits:
    """What a form may lose: points of mIoU; without labels, the least share of equal pixels."""

    loss: float
    agreement: float


LIMITS = {"fp16": Limits(0.1, 0.99), "int8": Limits(0.5, 0.97)}


class Judge:
    """Lets a form pass, or not, by what it answers for the examples."""

    def __init__(self, graph: onnx.ModelProto, examples: Sequence[Example], limits: Limits) -> None:
        self.examples, self.limits = examples, limits
        self.reference: Reading = read(graph, examples)

    def judge(self, form: onnx.ModelProto) -> Verdict:
        return self.compare(read(simulated(form), self.examples))

    def compare(self, form: Reading) -> Verdict:
        verdict = Verdict(self.reference, form)
        print(f"  {verdict}", file=sys.stderr)
        return verdict

    def passes(self, verdict: Verdict) -> bool:
        if verdict.loss is None:
            return verdict.agreement >= self.limits.agreement
        return verdict.loss <= self.limits.loss

    def require(self, verdict: Verdict) -> None:
        """Raise FormError with both numbers unless the form passes."""
        if self.passes(verdict):
            return
        least, most = self.limits.agreement, self.limits.loss
        rule = (
            f"{least:.1%} of pixels must keep their class"
            if verdict.loss is None
            else f"the loss must be at most {most:g} points of mIoU"
        )
        raise FormError(f"{rule}, but measured was: {verdict}; nothing was written")


def write_form(
    model: onnx.ModelProto,
    precision: str,
    target: Path,
    *,
    calibration: Sequence[NDArray[np.uint8]],
    examples: Sequence[Example],
    limits: Limits,
    clipping: str = "percentile",
) -> Path:
    """Write the "fp16" or "int8" form of an exported FP32 graph and a report; returns `target`.

    `calibration` (S, S, 3) each: images as the network gets them. The report lies beside
    `target`, as .json. Raises FormError, and leaves both as they were, if the form loses more than
    `limits` or could overflow FP16.
    """
    graph = onnx.ModelProto()
    graph.CopyFrom(model)
    fold_constants(graph.graph)
    ranges = checked_ranges(graph, calibration)
    judge = Judge(graph, examples, limits)
    facts: dict[str, Any] = {}
    if precision == "fp16":
        form = to_half(graph)
        verdict = judge.judge(form)
    else:
        form, verdict, facts = search_int8(graph, judge, calibration, clipping)
    judge.require(verdict)
    report = {
        "precision": precision,
        "limit": {"loss": limits.loss, "pixel_agreement": 100 * limits.agreement},
        **verdict.as_json(),
        **facts,
        "largest_values": ranges,
    }
    form.metadata_props.add(key="precision", value=precision)
    onnx.checker.check_model(form, full_check=True)
    return put_in_place(form, report, target)


def checked_ranges(graph: onnx.ModelProto, images: Sequence[NDArray[np.uint8]]) -> dict[str, float]:
    """The largest absolute value of every tensor that FP16 holds, largest first.

    FormError where one is too near to what FP16 can hold.
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
    found = largest_values(graph, sorted(computed | rounded), images)
    ranges = dict(sorted(found.items(), key=lambda item: -item[1]))
    name, largest = next(iter(ranges.items()))
    print(f"FP16 must hold {largest:.1f} at most, in {name}", file=sys.stderr)
    if not largest <= HALF_LIMIT / RANGE_MARGIN:
        raise FormError(
            f"values must stay below {HALF_LIMIT / RANGE_MARGIN:g}, an eighth of what FP16 holds, "
            f"but {name} reaches {largest:g}; nothing was written"
        )
    return ranges


def search_int8(
    graph: onnx.ModelProto,
    judge: Judge,
    images: Sequence[NDArray[np.uint8]],
    clipping: str,
) -> tuple[onnx.ModelProto, Verdict, dict[str, Any]]:
    """The form with the most layers in INT8 that passes, its verdict, and what was found out.

    Where none passes it is the one without any, which the caller has to refuse.
    """
    clips = clips_of(graph, images, clipping)

    def form_of(chosen: Collection[str]) -> onnx.ModelProto:
        return to_half(quantise(graph, clips, chosen))

    search = Search(graph, judge, lambda chosen: judge.judge(form_of(chosen)))
    chosen, verdict = search.most_layers(clips, images)
    facts = {
        "calibration": {"images": len(images), "clipping": clipping},
        "int8_layers": chosen,
        "fp16_layers": search.kept,
        "trials": {str(count): verdict.as_json() for count, verdict in search.trials()},
        "damage_alone": {layer: 100 * share for layer, share in search.damage.items()},
    }
    return form_of(chosen), verdict, facts


def clips_of(
    graph: onnx.ModelProto, images: Sequence[NDArray[np.uint8]], clipping: str
) -> dict[str, float]:
    """The absolute value that INT8 should reach in the input of each layer that can take it."""
    layers = candidates(graph)
    inputs = sorted({node.input[0] for node in graph.graph.node if node.name in layers})
    counted = histograms(graph, inputs, images)
    return {name: CLIPPING[clipping](histogram) for name, histogram in counted.items()}


class Search:
    """Finds the most layers that can be INT8: `judged` tells what a choice of layers loses."""

    def __init__(
        self,
        graph: onnx.ModelProto,
        judge: Judge,
        judged: Callable[[Collection[str]], Verdict],
    ) -> None:
        self.graph, self.judge, self.judged = graph, judge, judged
        self.layers = candidates(graph)
        self.kept: list[str] = []
        self.damage: dict[str, float] = {}
        self._tried: dict[int, Verdict] = {}

    def most_layers(
        self, clips: Mapping[str, float], images: Sequence[NDArray[np.uint8]]
    ) -> tuple[list[str], Verdict]:
        """The layers to make INT8, and their verdict; none where no choice passes."""
        if not self._passes(()):
            self.damage = damage_of_each(
                lambda chosen: quantise(self.graph, clips, chosen),
                self.layers,
                images[:RANKING_IMAGES],
            )
            self.kept = list(fewest_kept(list(self.damage), self._passes))
        return self._without(self.kept), self._tried[len(self.kept)]

    def trials(self) -> list[tuple[int, Verdict]]:
        """How many layers were kept out, and what that lost."""
        return sorted(self._tried.items())

    def _passes(self, kept: Sequence[str]) -> bool:
        total = len(self.layers)
        print(f"INT8 in {total - len(kept)} of {total} layers:", file=sys.stderr)
        self._tried[len(kept)] = self.judged(self._without(kept))
        return self.judge.passes(self._tried[len(kept)])

    def _without(self, kept: Sequence[str]) -> list[str]:
        return [layer for layer in self.layers if layer not in kept]


def put_in_place(form: onnx.ModelProto, report: dict[str, Any], target: Path) -> Path:
    """Write graph and report completely before the one and then the other gets its name."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".export-") as folder:
        graph_draft, report_draft = Path(folder) / "form.onnx", Path(folder) / "report.json"
        onnx.save(form, graph_draft)
        report_draft.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        os.replace(report_draft, target.with_suffix(".json"))
        os.replace(graph_draft, target)
    return target
