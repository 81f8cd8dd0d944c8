"""Search for the most layers that can be INT8 with the accuracy that the gate demands.

A layer's sensitivity is the share of pixels whose class changes when it alone is quantized. How
many of the most sensitive layers stay in FP16 is found in few trials: each evaluates the network
on every example.
"""

from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray

from pem_server.console import log
from pemexport import contract
from pemexport.accuracy import AccuracyReport
from pemexport.onnx_rewrite import open_session

from .accuracy_gate import AccuracyGate
from .int8 import candidates, quantize

RANKING_IMAGES = 4  # of the calibration images; each layer alone runs on every one

Images = Sequence[NDArray[np.uint8]]  # each (S, S, 3)


class LayerSearch:
    """Finds the most layers that can be INT8; `evaluate` reports the accuracy of a choice."""

    def __init__(
        self,
        graph: onnx.ModelProto,
        gate: AccuracyGate,
        evaluate: Callable[[Collection[str]], AccuracyReport],
    ) -> None:
        self.graph, self.gate, self.evaluate = graph, gate, evaluate
        self.layers = candidates(graph)
        self.excluded: list[str] = []
        self.sensitivity: dict[str, float] = {}
        self._tried: dict[int, AccuracyReport] = {}

    def most_layers(
        self, clips: Mapping[str, float], images: Images
    ) -> tuple[list[str], AccuracyReport]:
        """The layers to make INT8, and their accuracy; none when no choice passes."""
        if not self._passes(()):
            self.sensitivity = layer_sensitivity(
                lambda layers: quantize(self.graph, clips, layers),
                self.layers,
                images[:RANKING_IMAGES],
            )
            self.excluded = list(fewest_excluded(list(self.sensitivity), self._passes))
        return self._without(self.excluded), self._tried[len(self.excluded)]

    def trials(self) -> list[tuple[int, AccuracyReport]]:
        """The number of excluded layers of each trial, and its accuracy."""
        return sorted(self._tried.items())

    def _passes(self, excluded: Sequence[str]) -> bool:
        total = len(self.layers)
        log(f"INT8 in {total - len(excluded)} of {total} layers:")
        self._tried[len(excluded)] = self.evaluate(self._without(excluded))
        return self.gate.passes(self._tried[len(excluded)])

    def _without(self, excluded: Sequence[str]) -> list[str]:
        return [layer for layer in self.layers if layer not in excluded]


def layer_sensitivity(
    quantize: Callable[[Collection[str]], onnx.ModelProto], layers: Sequence[str], images: Images
) -> dict[str, float]:
    """The share of pixels that change class for each layer quantized alone, largest first.

    `quantize` returns the FP32 graph with the named layers in INT8.
    """
    expected = class_maps(quantize([]), images)
    sensitivity = {}
    for number, layer in enumerate(layers, 1):
        pairs = zip(class_maps(quantize([layer]), images), expected, strict=True)
        share = float(np.mean([(changed != true).mean() for changed, true in pairs]))
        sensitivity[layer] = share
        log(f"  {number:3d} of {len(layers)}: {share:.3%} of pixels change by {layer}")
    return dict(sorted(sensitivity.items(), key=lambda item: -item[1]))


def fewest_excluded(
    ranked: Sequence[str], passes: Callable[[Sequence[str]], bool]
) -> Sequence[str]:
    """The shortest prefix of `ranked` that passes when excluded from INT8; all if none passes.

    Found by doubling, then halving, so it is the shortest only if excluding more never makes it
    worse; but the result has been tried. The empty prefix is not tried.
    """
    fails, good = 0, 1
    while not passes(ranked[:good]):
        if good == len(ranked):
            return ranked
        fails, good = good, min(2 * good, len(ranked))
    while good - fails > 1:
        middle = (fails + good) // 2
        if passes(ranked[:middle]):
            good = middle
        else:
            fails = middle
    return ranked[:good]


def class_maps(model: onnx.ModelProto, images: Images) -> list[NDArray[np.int32]]:
    """The class of each pixel of each square image, (S, S) or at the graph's mask stride."""
    session = open_session(model)
    maps = []
    for image in images:
        class_ids, masks = session.run(
            [contract.CLASS_IDS, contract.MASKS], {contract.IMAGE: image[None]}
        )
        maps.append(class_ids[0][masks[0]])
    return maps
