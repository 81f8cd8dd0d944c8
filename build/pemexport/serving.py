"""The network as it is served: uint8 images in, class ids, scores and an index map out.

The same function as `Pem` followed by `card_outputs`, rearranged for inference at one fixed size.
Everything that does not depend on the image is computed once, here; nothing is approximated but
edges of the index map, see index_map.py. Every reshape has constant sizes, with -1 for the batch,
so that the exported graph has no shape arithmetic.

B batch, Q queries, D `decoder_width` channels, K classes, N tokens of a level.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pemseg.decoder import LEVELS, PrototypeDecoder
from pemseg.pem import PIXEL_MEAN, PIXEL_STD, STRIDE, Pem

from .fuse_batchnorm import compact, folded_copy
from .index_map import IndexMap
from .serving_layer import (
    LEVEL_STRIDES,
    LevelKeys,
    ServingCrossAttention,
    ServingFeedForward,
    ServingLayer,
    ServingSelfAttention,
)

MASK_STRIDE = 4  # of the mask features


class ServingPem(nn.Module):
    """One fixed image size, the tensor contract of `pem_network`."""

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: Pem,
        height: int,
        width: int,
        mask_stride: int = 1,
        upsample_all: bool = False,
    ) -> None:
        """`height`, `width` multiples of 32; `mask_stride` 1, 2 or 4: where the argmax is taken.

        `upsample_all`: the slow, exact index map.
        """
        super().__init__()
        if height % STRIDE or width % STRIDE or min(height, width) < STRIDE:
            raise ValueError(
                f"height and width must be multiples of {STRIDE}, got {height} x {width}"
            )
        if mask_stride not in (1, 2, 4):
            raise ValueError(f"mask_stride must be 1, 2 or 4, got {mask_stride}")
        self.register_buffer("mean", torch.tensor(PIXEL_MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(PIXEL_STD).view(1, 3, 1, 1))
        self.backbone = folded_copy(network.backbone)
        self.pixel_decoder = folded_copy(network.sem_seg_head.pixel_decoder)
        self.decoder = ServingDecoder(network.sem_seg_head.predictor, height, width)
        small = self.decoder.queries, *self.decoder.size_at(MASK_STRIDE)
        self.index_map = IndexMap(*small, MASK_STRIDE // mask_stride, upsample_all=upsample_all)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`image` (B, H, W, 3) uint8 RGB.

        Returns class_ids (B, Q) int32, scores (B, Q) float32, masks (B, H, W) / mask_stride uint8.
        """
        # The cast first: TensorRT does nothing else with uint8.
        pixels = image.to(self.mean.dtype).permute(0, 3, 1, 2)  # (B, 3, H, W)
        features = self.backbone((pixels - self.mean) / self.std)
        logits, masks = self.decoder(*self.pixel_decoder(features))
        probabilities = logits.softmax(dim=-1)[..., :-1]  # (B, Q, K): without "no object"
        scores, class_ids = probabilities.max(dim=-1)  # (B, Q)
        weighted = masks.sigmoid() * scores[:, :, None, None]  # (B, Q, H/4, W/4)
        return class_ids.to(torch.int32), scores, self.index_map(weighted)


def resize(x: Tensor, factor: float) -> Tensor:
    """Bilinear, by pixel centers: (B, C, H, W) to (B, C, H * factor, W * factor)."""
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


class ServingDecoder(nn.Module):
    """The query decoder without auxiliary heads, with its constants computed."""

    first_queries: Tensor
    first_mask_vectors: Tensor

    def __init__(self, decoder: PrototypeDecoder, height: int, width: int) -> None:
        super().__init__()
        self.height, self.width = height, width
        self.queries, self.channels = decoder.query_feat.weight.shape
        first = decoder.query_feat.weight.detach()[None]  # (1, Q, D)
        query_pos = decoder.query_embed.weight.detach()[None]  # (1, Q, D)
        self.register_buffer("first_queries", first)
        self.decoder_norm = decoder.decoder_norm
        self.mask_embed = nn.Sequential(
            *(part for linear in decoder.mask_embed.layers for part in (compact(linear), nn.ReLU()))
        )[:-1]
        self.class_embed = compact(decoder.class_embed)
        # The learned queries are weights, so their masks' vectors are constant.
        self.register_buffer("first_mask_vectors", self.mask_vectors(first).detach())
        self.layers = nn.ModuleList()
        for number, (cross, self_attention, feed_forward) in enumerate(decoder.layers):
            keys = LevelKeys(cross, decoder, number % LEVELS, height, width)
            known = first if number == 0 else None
            self.layers.append(
                ServingLayer(
                    keys,
                    ServingCrossAttention(cross, query_pos, keys.flat[1], known),
                    ServingSelfAttention(self_attention, query_pos),
                    ServingFeedForward(feed_forward),
                )
            )

    def forward(self, mask_features: Tensor, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Class logits (B, Q, K + 1) and mask logits (B, Q, H/4, W/4) of the last layer."""
        # Resizing acts on pixels and the product on channels, so they commute: shrinking the mask
        # features once replaces resizing the full-size masks of every layer.
        small = [
            self.flat(resize(mask_features, MASK_STRIDE / stride), stride)
            for stride in LEVEL_STRIDES
        ]
        queries, vectors = self.first_queries, self.first_mask_vectors
        for number, layer in enumerate(self.layers):
            level = number % LEVELS
            mask_logits = vectors @ small[level]  # (B, Q, N)
            queries = layer(queries, maps[level], mask_logits)  # (B, Q, D)
            vectors = self.mask_vectors(queries)  # (B, Q, D)
        masks = vectors @ self.flat(mask_features, MASK_STRIDE)  # (B, Q, H/4 * W/4)
        masks = masks.reshape(-1, self.queries, *self.size_at(MASK_STRIDE))  # (B, Q, H/4, W/4)
        return self.class_embed(self.decoder_norm(queries)), masks

    def mask_vectors(self, queries: Tensor) -> Tensor:
        return self.mask_embed(self.decoder_norm(queries))  # (B, Q, D)

    def size_at(self, stride: int) -> tuple[int, int]:
        return self.height // stride, self.width // stride

    def flat(self, x: Tensor, stride: int) -> Tensor:
        height, width = self.size_at(stride)
        return x.reshape(-1, self.channels, height * width)  # (B, D, N)
