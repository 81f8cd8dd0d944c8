"""One decoder layer as it is served: the parts of `attention.py` with constants precomputed.

B batch, Q queries, D `decoder_width` channels, C `pixel_width` channels, h heads of d channels,
N tokens of a level (H x W of them). Nothing is approximated; each part says why it is exact.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pemseg.attention import FeedForward, PrototypeCrossAttention, SelfAttention, unit_length
from pemseg.decoder import PrototypeDecoder, position_table

from .fuse_batchnorm import CompactLinear, FoldedConv, compact, norm_as_affine

LEVEL_STRIDES = (32, 16, 8)
BELOW_ANY_COSINE = -2.0  # similarities are cosines, at least -1


class ServingLayer(nn.Module):
    """One decoder layer."""

    def __init__(
        self,
        keys: "LevelKeys",
        cross_attention: "ServingCrossAttention",
        self_attention: "ServingSelfAttention",
        feed_forward: "ServingFeedForward",
    ) -> None:
        super().__init__()
        self.keys = keys
        self.cross_attention = cross_attention
        self.self_attention = self_attention
        self.feed_forward = feed_forward

    def forward(self, queries: Tensor, level: Tensor, mask_logits: Tensor) -> Tensor:
        queries = queries + self.cross_attention(queries, self.keys(level), mask_logits)
        return self.feed_forward(self.self_attention(queries))  # (B, Q, D)


class LevelKeys(nn.Module):
    """A level's map to the keys of one cross-attention: (B, C, H, W) to (B, D, N), length one.

    Input projection, level embedding, position table, batch norm, depthwise convolution and
    output layer are all affine, so they are one linear path plus their result for a zero map,
    which is a constant.
    """

    def __init__(
        self,
        cross: PrototypeCrossAttention,
        decoder: PrototypeDecoder,
        level: int,
        height: int,
        width: int,
    ) -> None:
        super().__init__()
        local, project = cross.feature_proj, decoder.input_proj[level]
        assert isinstance(project, nn.Conv2d)
        assert project.bias is not None
        size = height // LEVEL_STRIDES[level], width // LEVEL_STRIDES[level]
        scale, _ = norm_as_affine(local.bn)
        self.project = FoldedConv(project, scale)
        self.mix = FoldedConv(local.to_query_3x3)
        channels = local.out.out_features
        out = nn.Conv2d(channels, channels, 1, bias=False)
        out.weight = nn.Parameter(local.out.weight.detach()[:, :, None, None])
        self.out = FoldedConv(out)
        with torch.no_grad():
            bias = (project.bias + decoder.level_embed.weight[level]).view(1, -1, 1, 1)
            table = position_table(*size, channels=channels).to(bias)[None]
            rows_only = table.clone()
            rows_only[:, channels // 2 :] = 0
            by_row, both = (
                local(bias + part).transpose(1, 2).unflatten(2, size)  # (1, D, H, W)
                for part in (rows_only, table)
            )
        self.constant = SeparableMap(by_row, both - by_row)
        self.flat = channels, size[0] * size[1]

    def forward(self, level: Tensor) -> Tensor:
        keys = self.out(self.mix(self.project(level))) + self.constant()  # (B, D, H, W)
        return unit_length(keys.reshape(-1, *self.flat), dim=1)  # (B, D, N)


class SeparableMap(nn.Module):
    """A constant map (1, D, H, W) kept as its rows and its columns, a hundredth of the size.

    It is the sum of a part that varies by row and a part that varies by column, as the position
    table is, and the following layers act alike everywhere but at the border, where the depthwise
    convolution has zero padding. Hence the first, an inner and the last column represent the one
    part, and the same rows the other.
    """

    rows: Tensor
    columns: Tensor
    row_kind: Tensor
    column_kind: Tensor

    def __init__(self, by_row: Tensor, by_column: Tensor) -> None:
        super().__init__()
        height, width = by_row.shape[2:]
        self.register_buffer("rows", by_row[:, :, :, [0, min(1, width - 1), width - 1]])
        self.register_buffer("columns", by_column[:, :, [0, min(1, height - 1), height - 1], :])
        self.register_buffer("column_kind", first_inner_last(width))
        self.register_buffer("row_kind", first_inner_last(height))

    def forward(self) -> Tensor:
        rows = self.rows.index_select(3, self.column_kind)  # (1, D, H, W)
        return rows + self.columns.index_select(2, self.row_kind)  # (1, D, H, W)


def first_inner_last(length: int) -> Tensor:
    """0 for the first place, 2 for the last, 1 for those between: (length,) int64."""
    kind = torch.ones(length, dtype=torch.int64)
    kind[-1], kind[0] = 2, 0
    return kind


class ServingCrossAttention(nn.Module):
    """`PrototypeCrossAttention` on ready keys, without index arithmetic over the batch."""

    query_pos: Tensor
    alpha: Tensor
    each_channel: Tensor
    query: Tensor | None

    def __init__(
        self,
        cross: PrototypeCrossAttention,
        query_pos: Tensor,
        tokens: int,
        first_queries: Tensor | None,
    ) -> None:
        """With `first_queries` (1, Q, D), the projected query is a constant."""
        super().__init__()
        self.tokens = tokens
        self.queries, self.channels = query_pos.shape[1:]
        self.heads, self.head_width = cross.heads, self.channels // cross.heads
        each_channel = torch.zeros(1, 1, self.head_width, 1, dtype=torch.int64)
        self.register_buffer("each_channel", each_channel)  # repeats an index by broadcasting
        self.register_buffer("query_pos", query_pos)
        norm, linear = cross.query_proj
        self.query_proj = nn.Sequential(norm, compact(linear))
        self.proj, self.final = compact(cross.proj), compact(cross.final)
        self.register_buffer("alpha", cross.alpha.detach())
        query = None if first_queries is None else self.project(first_queries).detach()
        self.register_buffer("query", query)

    def project(self, queries: Tensor) -> Tensor:
        return unit_length(self.query_proj(queries + self.query_pos), dim=-1)  # (B, Q, D)

    def forward(self, queries: Tensor, keys: Tensor, mask_logits: Tensor) -> Tensor:
        """`keys` (B, D, N); `mask_logits` (B, Q, N); returns (B, Q, D)."""
        query = self.project(queries) if self.query is None else self.query
        prototypes = self.prototypes(query, keys, mask_logits)
        modulated = unit_length(self.proj(prototypes * query), dim=1)  # (B, Q, D), across queries
        return self.final(modulated * self.alpha + prototypes)  # (B, Q, D)

    def prototypes(self, query: Tensor, keys: Tensor, mask_logits: Tensor) -> Tensor:
        """Each head's part of the most similar token inside the query's mask: (B, Q, D)."""
        best = mask_logits.amax(dim=2, keepdim=True)  # (B, Q, 1)
        empty = best < 0  # queries with an empty mask
        all_empty = best.amax(dim=1, keepdim=True) < 0  # (B, 1, 1): no mask has a token
        attn_mask = (mask_logits < 0) & ~all_empty  # (B, Q, N)
        heads, width = self.heads, self.head_width
        split_keys = keys.reshape(-1, heads, width, self.tokens)  # (B, h, d, N)
        split_query = query.reshape(-1, self.queries, heads, width)  # (B, Q, h, d)
        cosine = split_query.transpose(1, 2) @ split_keys  # (B, h, Q, N)
        cosine = cosine.masked_fill(attn_mask.unsqueeze(1), BELOW_ANY_COSINE)
        index = cosine.argmax(dim=3)  # (B, h, Q)
        # A tie of all tokens goes to token 0. Stated here because TensorRT leaves ties undefined.
        index = index.masked_fill((empty & ~all_empty).transpose(1, 2), 0)  # (B, h, Q)
        repeated = index.unsqueeze(2) + self.each_channel  # (B, h, d, Q)
        selected = split_keys.gather(3, repeated)  # (B, h, d, Q)
        return selected.reshape(-1, self.channels, self.queries).transpose(1, 2)  # (B, Q, D)


class ServingSelfAttention(nn.Module):
    """Self-attention with precomputed query positions: W(x + E) + b = Wx + constant."""

    def __init__(self, attention: SelfAttention, query_pos: Tensor) -> None:
        super().__init__()
        inner, (_, self.queries, width) = attention.self_attn, query_pos.shape
        self.channels, self.heads, self.norm = width, inner.num_heads, attention.norm
        weight, bias = inner.in_proj_weight.detach(), inner.in_proj_bias.detach()
        offset = F.linear(query_pos, weight, bias)  # (1, Q, 3D): for queries and keys,
        offset[:, :, 2 * width :] = bias[2 * width :]  # but values have no position
        self.in_proj = CompactLinear(weight, offset)
        self.out_proj = compact(inner.out_proj)

    def forward(self, queries: Tensor) -> Tensor:
        packed = self.in_proj(self.norm(queries))  # (B, Q, 3D)
        q, k, v = (self.split_heads(part) for part in packed.split(self.channels, dim=2))
        similarity = q @ k.transpose(2, 3) * (self.channels // self.heads) ** -0.5
        out = (similarity.softmax(dim=-1) @ v).transpose(1, 2)  # (B, Q, h, d)
        return queries + self.out_proj(out.reshape(-1, self.queries, self.channels))  # (B, Q, D)

    def split_heads(self, x: Tensor) -> Tensor:
        x = x.reshape(-1, self.queries, self.heads, self.channels // self.heads)  # (B, Q, h, d)
        return x.transpose(1, 2)  # (B, h, Q, d)


class ServingFeedForward(nn.Module):
    """The feed-forward part, stored small."""

    def __init__(self, feed_forward: FeedForward) -> None:
        super().__init__()
        self.norm = feed_forward.norm
        self.linear1, self.linear2 = compact(feed_forward.linear1), compact(feed_forward.linear2)

    def forward(self, queries: Tensor) -> Tensor:
        return queries + self.linear2(F.relu(self.linear1(self.norm(queries))))  # (B, Q, D)
