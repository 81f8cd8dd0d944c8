"""The network exported as it is written, with the outputs of the served graph: what the work saves.

Nothing is rearranged: every layer's own mask product is enlarged or shrunk where the paper says so,
and at the end all hundred masks are enlarged to the size of the image and compared there.
"""

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from pemexport import contract
from pemseg import load_network
from pemseg.inference import card_outputs
from pemseg.pem import Pem

OPSET = 17


class NaivePem(nn.Module):
    """The tensor contract of `pem_network` around the network and the card's reading of it."""

    def __init__(self, network: Pem) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`image` (B, H, W, 3) uint8 to class_ids (B, Q), scores (B, Q), masks (B, H, W)."""
        prediction = self.network(image.permute(0, 3, 1, 2))
        size = (image.shape[1], image.shape[2])
        class_ids, scores, masks = card_outputs(prediction, size)
        return class_ids.to(torch.int32), scores, masks.to(torch.uint8)


def export_naive(network: Pem, target: Path, side: int = contract.IMAGE_SIZE) -> Path:
    """Write the graph in FP32 with a dynamic batch; returns `target`."""
    example = torch.zeros(2, side, side, 3, dtype=torch.uint8)
    names = (contract.IMAGE, *contract.OUTPUTS)
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # the exporter announces its successor at every call
        torch.onnx.export(
            NaivePem(network).eval(),
            (example,),
            target,
            input_names=[contract.IMAGE],
            output_names=list(contract.OUTPUTS),
            dynamic_axes={name: {0: "batch"} for name in names},
            opset_version=OPSET,
            dynamo=False,
        )
    return target


def naive_of(weights: Path, folder: Path) -> Path:
    """The graph of the weights at `weights`, written into `folder`."""
    return export_naive(load_network(weights), folder / "naive.onnx")
