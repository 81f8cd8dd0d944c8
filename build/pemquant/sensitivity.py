"""Which layers INT8 hurts, measured, and the fewest of them to leave in FP16.

A layer's damage is the share of pixels whose class changes when it alone is quantised. How many of
the worst have to stay is found by trials, few of them: each is a whole network before its judge.
"""

import sys
from collections.abc import Callable, Collection, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray

from pemexport import contract

from .fp16_emulation import open_session

Quantise = Callable[[Collection[str]], onnx.ModelProto]


def damage_of_each(
    quantise: Quantise,
    layers: Sequence[str],
    images: Sequence[NDArray[np.uint8]],
) -> dict[str, float]:
    """The share of pixels that change class for each layer quantised alone, worst first.

    `quantise` gives the FP32 graph with the named layers in INT8; images are (S, S, 3).
    """
    expected = class_maps(quantise([]), images)
    damage = {}
    for number, layer in enumerate(layers, 1):
        pairs = zip(class_maps(quantise([layer]), images), expected, strict=True)
        damage[layer] = float(np.mean([(found != true).mean() for found, true in pairs]))
        share = f"{damage[layer]:.3%} of pixels change"
        print(f"  {number:3d} of {len(layers)}: {share} by {layer}", file=sys.stderr)
    return dict(sorted(damage.items(), key=lambda item: -item[1]))


def fewest_kept(ranked: Sequence[str], passes: Callable[[Sequence[str]], bool]) -> Sequence[str]:
    """The shortest start of `ranked` that passes when kept out of INT8; all where none passes.

    Found by doubling, then halving, so it is the shortest only where keeping more never makes it
    worse; but what is returned has been tried. Keeping none is not tried.
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


def class_maps(
    model: onnx.ModelProto, images: Sequence[NDArray[np.uint8]]
) -> list[NDArray[np.int32]]:
    """The class of each pixel of each square image, (S, S) or at the graph's mask stride."""
    session = open_session(model)
    maps = []
    for image in images:
        class_ids, masks = session.run(
            [contract.CLASS_IDS, contract.MASKS], {contract.IMAGE: image[None]}
        )
        maps.append(class_ids[0][masks[0]])
    return maps
