"""The prototype-based transformer decoder: queries to classes and masks.

B batch, Q queries, D `decoder_width` channels, C `pixel_width` channels, K classes,
N tokens of a level; H and W the size of the image.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from .attention import FeedForward, PrototypeCrossAttention, SelfAttention
from .config import PemConfig
from .position import position_table

LEVELS = 3  # strides 32, 16 and 8, visited in turn


@dataclass(frozen=True)
class Prediction:
    """What the heads read from the queries.

    `logits` (B, Q, K + 1), the last column "no object"; `masks` (B, Q, H/4, W/4) logits.
    `earlier` holds the auxiliary outputs: of the learnt queries, then of each layer but the last.
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
    """Learnt queries, refined layer by layer, each read as one class and one mask."""

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
        outputs = [self.read(queries, mask_features)]
        for number, (cross_attention, self_attention, feed_forward) in enumerate(self.layers):
            tokens = levels[number % LEVELS]
            outside = outside_mask(outputs[-1].masks, tokens)  # (B, Q, N)
            queries = queries + cross_attention(queries, query_pos, tokens, outside)
            queries = feed_forward(self_attention(queries, query_pos))
            outputs.append(self.read(queries, mask_features))
        *earlier, final = outputs
        return Prediction(final.logits, final.masks, tuple(earlier))

    def embed_level(self, number: int, x: Tensor) -> Tensor:
        """The tokens of a level with its number and their places added: (B, D, h, w)."""
        tokens = self.input_proj[number](x) + self.level_embed.weight[number].view(1, -1, 1, 1)
        _, channels, height, width = tokens.shape
        table = position_table(height, width, channels)
        return tokens + table.to(tokens)

    def read(self, queries: Tensor, mask_features: Tensor) -> Prediction:
        """Class logits and mask logits of the queries as they stand."""
        normed = self.decoder_norm(queries)  # (B, Q, D)
        masks = self.mask_embed(normed) @ mask_features.flatten(2)  # (B, Q, H/4 * W/4)
        masks = masks.unflatten(-1, mask_features.shape[2:])  # (B, Q, H/4, W/4)
        return Prediction(self.class_embed(normed), masks)


def outside_mask(masks: Tensor, tokens: Tensor) -> Tensor:
    """Which tokens lie outside each query's mask: (B, Q, N) bool. A logit of 0 is inside."""
    size = tokens.shape[2:]
    resized = F.interpolate(masks, size=size, mode="bilinear", align_corners=False)
    return resized.flatten(2) < 0  # (B, Q, N)
