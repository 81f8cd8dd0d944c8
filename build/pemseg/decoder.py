"""The prototype-based transformer decoder: queries to classes and masks.

B batch, Q queries, D `decoder_width` channels, C `pixel_width` channels, K classes,
N tokens of a level; H and W the size of the image.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .attention import FeedForward, PrototypeCrossAttention, SelfAttention
from .config import PemConfig

LEVELS = 3  # strides 32, 16 and 8, visited in turn
TEMPERATURE = 10_000.0  # of the position table


@dataclass(frozen=True)
class Prediction:
    """The output of the class and mask heads.

    `logits` (B, Q, K + 1), the last column "no object"; `masks` (B, Q, H/4, W/4) logits.
    `earlier` holds the auxiliary outputs: of the learned queries, then of each layer but the last.
    """

    logits: Tensor
    masks: Tensor
    earlier: tuple["Prediction", ...] = field(default=())


class Mlp(nn.Module):
    """Three linear layers with ReLU between."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        first, second, last = self.layers
        return last(F.relu(second(F.relu(first(x)))))


class PrototypeDecoder(nn.Module):
    """Learned queries, refined layer by layer, each predicting one class and one mask."""

    def __init__(self, config: PemConfig) -> None:
        super().__init__()
        width, layers = config.decoder_width, range(config.layers)
        self.query_feat = nn.Embedding(config.queries, width)
        self.query_embed = nn.Embedding(config.queries, width)
        self.level_embed = nn.Embedding(LEVELS, width)
        self.input_proj = nn.ModuleList(
            nn.Conv2d(config.pixel_width, width, 1) for _ in range(LEVELS)
        )
        self.transformer_cross_attention_layers = nn.ModuleList(
            PrototypeCrossAttention(width, config.heads) for _ in layers
        )
        self.transformer_self_attention_layers = nn.ModuleList(
            SelfAttention(width, config.heads) for _ in layers
        )
        self.transformer_ffn_layers = nn.ModuleList(
            FeedForward(width, config.ffn_width) for _ in layers
        )
        self.decoder_norm = nn.LayerNorm(width)
        self.class_embed = nn.Linear(width, config.classes + 1)
        self.mask_embed = Mlp(width)
        for name, value in self.input_proj.named_parameters():
            if name.endswith("weight"):
                nn.init.kaiming_uniform_(value, a=1)
            else:
                nn.init.zeros_(value)

    @property
    def layers(self) -> Iterator[tuple[PrototypeCrossAttention, SelfAttention, FeedForward]]:
        """The layers in order, each with its three parts."""
        parts: Any = (
            self.transformer_cross_attention_layers,
            self.transformer_self_attention_layers,
            self.transformer_ffn_layers,
        )
        return zip(*parts, strict=True)

    def forward(self, mask_features: Tensor, maps: Sequence[Tensor]) -> Prediction:
        """`mask_features` (B, D, H/4, W/4); `maps` x_32, x_16, x_8, each (B, C, h, w)."""
        levels = [self.embed_level(number, x) for number, x in enumerate(maps)]
        batch = mask_features.shape[0]
        queries = self.query_feat.weight.expand(batch, -1, -1)  # (B, Q, D)
        query_pos = self.query_embed.weight.expand(batch, -1, -1)  # (B, Q, D)
        outputs = [self.predict(queries, mask_features)]
        for number, (cross_attention, self_attention, feed_forward) in enumerate(self.layers):
            tokens = levels[number % LEVELS]
            attn_mask = attention_mask(outputs[-1].masks, tokens)  # (B, Q, N)
            queries = queries + cross_attention(queries, query_pos, tokens, attn_mask)
            queries = feed_forward(self_attention(queries, query_pos))
            outputs.append(self.predict(queries, mask_features))
        *earlier, final = outputs
        return Prediction(final.logits, final.masks, tuple(earlier))

    def embed_level(self, number: int, x: Tensor) -> Tensor:
        """The tokens of a level with level and position embeddings added: (B, D, h, w)."""
        tokens = self.input_proj[number](x) + self.level_embed.weight[number].view(1, -1, 1, 1)
        _, channels, height, width = tokens.shape
        table = position_table(height, width, channels)
        return tokens + table.to(tokens)

    def predict(self, queries: Tensor, mask_features: Tensor) -> Prediction:
        """Class logits and mask logits of the current queries."""
        normed = self.decoder_norm(queries)  # (B, Q, D)
        masks = self.mask_embed(normed) @ mask_features.flatten(2)  # (B, Q, H/4 * W/4)
        masks = masks.unflatten(-1, mask_features.shape[2:])  # (B, Q, H/4, W/4)
        return Prediction(self.class_embed(normed), masks)


def attention_mask(masks: Tensor, tokens: Tensor) -> Tensor:
    """True where a token is outside a query's mask: (B, Q, N) bool. A logit of 0 is inside."""
    size = tokens.shape[2:]
    resized = F.interpolate(masks, size=size, mode="bilinear", align_corners=False)
    return resized.flatten(2) < 0  # (B, Q, N)


def position_table(height: int, width: int, channels: int) -> Tensor:
    """Sines and cosines of row (first half of the channels) and column, (channels, H, W) float32.

    Mask2Former's, and DETR's before. Always float32, whatever the network's type: the published
    weights were trained with such tables.
    """
    half = channels // 2
    steps = torch.arange(half, dtype=torch.float32)
    period = TEMPERATURE ** (2 * torch.div(steps, 2, rounding_mode="floor") / half)  # (half,)

    def waves(length: int) -> Tensor:
        place = torch.arange(1, length + 1, dtype=torch.float32) / (length + 1e-6) * (2 * math.pi)
        angle = place[None] / period[:, None]  # (half, length)
        return torch.stack((angle[0::2].sin(), angle[1::2].cos()), dim=1).flatten(0, 1)

    rows = waves(height)[:, :, None].expand(half, height, width)
    columns = waves(width)[:, None, :].expand(half, height, width)
    return torch.cat((rows, columns))  # (channels, H, W)
