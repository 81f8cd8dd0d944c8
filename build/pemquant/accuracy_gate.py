"""The gate that every reduced-precision variant must pass before it is written.

A variant is compared with the FP32 graph: loss of mIoU where the examples have labels, agreement
of the class maps otherwise.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import onnx

from pem_server.console import log
from pemexport.accuracy import AccuracyReport, Evaluation, Example, evaluate

from .fp16 import PrecisionError
from .fp16_emulation import emulate_fp16


@dataclass(frozen=True)
class Limits:
    """What a variant may lose: points of mIoU; without labels, the least share of equal pixels."""

    loss: float
    agreement: float


LIMITS = {"fp16": Limits(0.1, 0.99), "int8": Limits(0.5, 0.97)}


class AccuracyGate:
    """Passes a variant, or not, by its accuracy on the examples."""

    def __init__(self, graph: onnx.ModelProto, examples: Sequence[Example], limits: Limits) -> None:
        self.examples, self.limits = examples, limits
        self.reference: Evaluation = evaluate(graph, examples)

    def evaluate(self, variant: onnx.ModelProto) -> AccuracyReport:
        """The accuracy of a typed graph, emulated on the CPU."""
        return self.compare(evaluate(emulate_fp16(variant), self.examples))

    def compare(self, evaluation: Evaluation) -> AccuracyReport:
        report = AccuracyReport(self.reference, evaluation)
        log(f"  {report}")
        return report

    def passes(self, report: AccuracyReport) -> bool:
        if report.loss is None:
            return report.agreement >= self.limits.agreement
        return report.loss <= self.limits.loss

    def require(self, report: AccuracyReport) -> None:
        """Raise PrecisionError with both numbers unless the variant passes."""
        if self.passes(report):
            return
        if report.loss is None:
            limit = f"at least {self.limits.agreement:.1%} of pixels must keep their class"
        else:
            limit = f"the limit is {self.limits.loss:g} points of mIoU"
        raise PrecisionError(f"{report}; {limit}; nothing was written")
