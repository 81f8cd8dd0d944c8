"""The network exported as it is written, for comparison: the naive graph and the tutorial's.

Neither rearranges anything. The naive graph has the tensors of the served one, so its time shows
what the served graph's rearrangements save. The tutorial's graph has float tensors in and out.
"""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from pemexport import contract
from pemseg import Pem
from pemseg.inference import card_outputs

OPSET = 17
Outputs = Callable[[Pem, Tensor], tuple[Tensor, ...]]


class Exported(nn.Module):
    """`outputs` of the network and an image as a module's forward, for the exporter."""

    def __init__(self, network: Pem, outputs: Outputs) -> None:
        super().__init__()
        self.network, self.outputs = network, outputs

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return self.outputs(self.network, image)


def naive_outputs(network: Pem, image: Tensor) -> tuple[Tensor, ...]:
    """`image` (B, H, W, 3) uint8 to class_ids (B, Q), scores (B, Q), masks (B, H, W).

    All masks are enlarged to the image and compared there.
    """
    prediction = network(image.permute(0, 3, 1, 2))
    class_ids, scores, masks = card_outputs(prediction, (image.shape[1], image.shape[2]))
    return class_ids.to(torch.int32), scores, masks.to(torch.uint8)


def tutorial_outputs(network: Pem, image: Tensor) -> tuple[Tensor, ...]:
    """Images (B, 3, H, W) to class logits (B, Q, K + 1), masks (B, Q, H/4, W/4).

    Without `Pem.normalise`: the tutorial normalizes in its preprocessing.
    """
    head = network.sem_seg_head
    prediction = head.predictor(*head.pixel_decoder(network.backbone(image)))
    return prediction.logits, prediction.masks


def export_naive(network: Pem, target: Path, side: int = contract.IMAGE_SIZE) -> Path:
    """Write the naive graph; returns `target`."""
    example = torch.zeros(2, side, side, 3, dtype=torch.uint8)
    return _export(network, naive_outputs, contract.OUTPUTS, example, target)


def export_tutorial(network: Pem, target: Path, side: int = contract.IMAGE_SIZE) -> Path:
    """Write the tutorial's graph; returns `target`."""
    example = torch.zeros(2, 3, side, side)
    return _export(network, tutorial_outputs, ("class_logits", "mask_logits"), example, target)


def _export(
    network: Pem, outputs: Outputs, names: Sequence[str], example: Tensor, target: Path
) -> Path:
    """In FP32 with a dynamic batch."""
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # the exporter announces its successor at every call
        torch.onnx.export(
            Exported(network, outputs).eval(),
            (example,),
            target,
            input_names=[contract.IMAGE],
            output_names=list(names),
            dynamic_axes={name: {0: "batch"} for name in (contract.IMAGE, *names)},
            opset_version=OPSET,
            dynamo=False,
        )
    return target
