"""The network as a tutorial exports it: the module as it is, float tensors in and out.

The project's own export rearranges the network for inference; this one is what the peers' tutorial
form serves, with the same weights.
"""

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from pemexport import contract
from pemseg import load_network
from pemseg.pem import Pem

OPSET = 17
INPUT, OUTPUTS = "image", ("class_logits", "mask_logits")


class PlainPem(nn.Module):
    """Normalised images (B, 3, H, W) to class logits (B, Q, K + 1), masks (B, Q, H/4, W/4).

    Without `Pem.normalise`: the tutorial normalises in its preprocessing.
    """

    def __init__(self, network: Pem) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        head = self.network.sem_seg_head
        prediction = head.predictor(*head.pixel_decoder(self.network.backbone(image)))
        return prediction.logits, prediction.masks


def export_plain(weights: Path, target: Path) -> Path:
    """Write the graph in FP32 with a dynamic batch; returns `target`."""
    module = PlainPem(load_network(weights)).eval()
    example = torch.zeros(2, 3, contract.IMAGE_SIZE, contract.IMAGE_SIZE)
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # the exporter announces its successor at every call
        torch.onnx.export(
            module,
            (example,),
            target,
            input_names=[INPUT],
            output_names=list(OUTPUTS),
            dynamic_axes={name: {0: "batch"} for name in (INPUT, *OUTPUTS)},
            opset_version=OPSET,
            dynamo=False,
        )
    return target
