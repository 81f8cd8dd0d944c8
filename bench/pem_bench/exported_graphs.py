"""The network exported as it is written, for comparison: the naive graph and the tutorial's.

Neither rearranges anything. The naive graph has the tensors of the served one, so its time shows
what the served graph's rearrangements save. The tutorial's graph has float tensors in and out.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from pemexport import contract
from pemseg import Pem
from pemseg.inference import card_outputs

OPSET = 17


class NaiveGraph(nn.Module):
    def __init__(self, network: Pem) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """`image` (B, H, W, 3) uint8 to class_ids (B, Q), scores (B, Q), masks (B, H, W).

        All masks are enlarged to the image and compared there.
        """
        prediction = self.network(image.permute(0, 3, 1, 2))
        class_ids, scores, masks = card_outputs(prediction, (image.shape[1], image.shape[2]))
        return class_ids.to(torch.int32), scores, masks.to(torch.uint8)


class TutorialGraph(NaiveGraph):
    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Images (B, 3, H, W) to class logits (B, Q, K + 1), masks (B, Q, H/4, W/4).

        Without `Pem.normalize`: the tutorial normalizes in its preprocessing.
        """
        head = self.network.sem_seg_head
        prediction = head.predictor(*head.pixel_decoder(self.network.backbone(image)))
        return prediction.logits, prediction.masks


def export_naive(network: Pem, target: Path, side: int = contract.IMAGE_SIZE) -> Path:
    """Write the naive graph; returns `target`."""
    example = torch.zeros(2, side, side, 3, dtype=torch.uint8)
    return _export(NaiveGraph(network), contract.OUTPUTS, example, target)


def export_tutorial(network: Pem, target: Path, side: int = contract.IMAGE_SIZE) -> Path:
    """Write the tutorial's graph; returns `target`."""
    example = torch.zeros(2, 3, side, side)
    return _export(TutorialGraph(network), ("class_logits", "mask_logits"), example, target)


def _export(graph: nn.Module, names: Sequence[str], example: Tensor, target: Path) -> Path:
    """In FP32 with a dynamic batch."""
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # the exporter announces its successor at every call
        torch.onnx.export(
            graph.eval(),
            (example,),
            target,
            input_names=[contract.IMAGE],
            output_names=list(names),
            dynamic_axes={name: {0: "batch"} for name in (contract.IMAGE, *names)},
            opset_version=OPSET,
            dynamo=False,
        )
    return target
