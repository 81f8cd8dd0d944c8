"""The network in FP16 for PyTorch: convolutions and the mask product; FP32 where FP16 would choose.

FP32 stay the comparison with the mask logits, the similarities and what is made of them: a rounded
similarity can choose another prototype, and that one changes every other query. These parts are
small beside the convolutions.
"""

import copy

import torch
from torch import Tensor, nn

from pemexport.fuse_batchnorm import CompactLinear, FoldedConv
from pemexport.serving import MASK_STRIDE, ServingPem, resize
from pemexport.serving_layer import LEVEL_STRIDES
from pemseg.decoder import LEVELS


class HalfPem(nn.Module):
    """`ServingPem` with its backbone, its pixel decoder and its masks in FP16, channels last."""

    def __init__(self, network: ServingPem) -> None:
        """`network` on any device; this is a copy of it."""
        super().__init__()
        network = copy.deepcopy(network)
        settle(network.backbone, torch.float16)
        settle(network.pixel_decoder, torch.float16)
        settle(network.decoder, torch.float32)
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`image` (B, H, W, 3) uint8; the same outputs as `ServingPem`."""
        network = self.network
        planes = image.permute(0, 3, 1, 2).float()  # (B, 3, H, W), channels last in memory
        pixels = ((planes - network.mean) / network.std).half()
        mask_features, maps = network.pixel_decoder(network.backbone(pixels))
        logits, masks = self.decode(mask_features, [level.float() for level in maps])
        scores, class_ids = logits.softmax(dim=-1)[..., :-1].max(dim=-1)  # (B, Q)
        weighted = masks.float().sigmoid() * scores[:, :, None, None]  # (B, Q, H/4, W/4)
        return class_ids.to(torch.int32), scores, network.index_map(weighted)

    def decode(self, mask_features: Tensor, maps: list[Tensor]) -> tuple[Tensor, Tensor]:
        """As `ServingDecoder`: class logits in FP32, mask logits (B, Q, H/4, W/4) in FP16."""
        decoder = self.network.decoder
        queries, vectors = decoder.first_queries, decoder.first_mask_vectors
        for number, layer in enumerate(decoder.layers):
            level = number % LEVELS
            stride = LEVEL_STRIDES[level]
            small = resize(mask_features, MASK_STRIDE / stride).float()
            mask_logits = vectors @ decoder.flat(small, stride)  # (B, Q, N)
            queries = layer(queries, maps[level], mask_logits)  # (B, Q, D)
            vectors = decoder.mask_vectors(queries)  # (B, Q, D)
        masks = vectors.half() @ decoder.flat(mask_features, MASK_STRIDE)  # (B, Q, H/4 * W/4)
        masks = masks.reshape(-1, decoder.queries, *decoder.size_at(MASK_STRIDE))
        return decoder.class_embed(decoder.decoder_norm(queries)), masks


def settle(part: nn.Module, dtype: torch.dtype) -> None:
    """Do once what the stored form does at each call: multiply the scales in, cast, lay out."""
    for module in part.modules():
        if isinstance(module, FoldedConv):
            weight = module.weight.float()
            weight = weight if module.scale is None else weight * module.scale
            module.weight = weight.to(dtype).contiguous(memory_format=torch.channels_last)
            module.scale = None
        elif isinstance(module, CompactLinear):
            module.weight = module.weight.to(dtype)
    part.to(dtype)
