"""PEM: Prototype-based Efficient MaskFormer (Cavagnero et al., CVPR 2024, arXiv 2402.19422).

B batch, Q queries, K classes, H and W the size of the image (multiples of 32).
"""

from torch import Tensor, nn

from .backbone import Stdc
from .config import PemConfig
from .decoder import Prediction, PrototypeDecoder
from .pixel_decoder import PixelDecoder

PIXEL_MEAN = (123.675, 116.28, 103.53)  # RGB, ImageNet
PIXEL_STD = (58.395, 57.12, 57.375)
STRIDE = 32  # of the coarsest features; both sides of an image are multiples of it


class SegmentationHead(nn.Module):
    """Pixel decoder and query decoder under the names that the published checkpoints use."""

    def __init__(self, pixel_decoder: PixelDecoder, predictor: PrototypeDecoder) -> None:
        super().__init__()
        self.pixel_decoder = pixel_decoder
        self.predictor = predictor

    def forward(self, features: list[Tensor]) -> Prediction:
        """`features` res2 .. res5."""
        return self.predictor(*self.pixel_decoder(features))


class Pem(nn.Module):
    """The whole network. Attribute names are the keys of the published checkpoints."""

    def __init__(self, config: PemConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = Stdc(config.backbone_widths, config.backbone_blocks)
        pixel_decoder = PixelDecoder(
            config.backbone_widths,
            config.pixel_width,
            config.decoder_width,
            deformable=config.deformable,
        )
        self.sem_seg_head = SegmentationHead(pixel_decoder, PrototypeDecoder(config))

    def forward(self, image: Tensor) -> Prediction:
        """`image` (B, 3, H, W) RGB 0..255 of any type; H and W multiples of 32.

        Returns class logits (B, Q, K + 1), mask logits (B, Q, H/4, W/4) and the auxiliary outputs.
        """
        if image.shape[2] % STRIDE or image.shape[3] % STRIDE:
            raise ValueError(
                f"image height and width must be multiples of {STRIDE}, got "
                f"{tuple(image.shape[2:])}; pad the image with the pixel mean"
            )
        return self.sem_seg_head(self.backbone(self.normalize(image)))

    def normalize(self, image: Tensor) -> Tensor:
        """RGB 0..255 to zero mean and unit deviation, in the network's own type."""
        weight = self.sem_seg_head.predictor.class_embed.weight
        mean = weight.new_tensor(PIXEL_MEAN).view(1, 3, 1, 1)
        std = weight.new_tensor(PIXEL_STD).view(1, 3, 1, 1)
        return (image.to(weight.dtype) - mean) / std  # (B, 3, H, W)
