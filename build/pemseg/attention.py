"""The three parts of a decoder layer: prototype cross-attention, self-attention, feed-forward.

B batch, Q queries, D `decoder_width` channels, h heads of d = D / h channels, N tokens (the
pixels of one level of the pixel decoder, H x W of them).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

EPSILON = 1e-12  # smallest divisor when vectors are scaled to length one


def unit_length(x: Tensor, dim: int) -> Tensor:
    """`x` divided by its L2 norm along `dim`; same shape."""
    return x / x.norm(dim=dim, keepdim=True).clamp_min(EPSILON)


class LocalFeatures(nn.Module):
    """The keys: a level's features mixed with their neighbors, one vector per token."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(width)
        self.to_query_3x3 = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """`x` (B, D, H, W); returns (B, N, D)."""
        mixed = self.to_query_3x3(self.bn(x))  # (B, D, H, W)
        return self.out(mixed.flatten(2).transpose(1, 2))  # (B, N, D)


class PrototypeCrossAttention(nn.Module):
    """PEM-CA (the PEM paper, section 3.2): each query attends to one token per head, its prototype.

    Instead of a softmax over all tokens, the most similar token is selected and multiplied in.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.feature_proj = LocalFeatures(width)
        self.query_proj = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width))
        self.proj = nn.Linear(width, width)
        self.final = nn.Linear(width, width)
        self.alpha = nn.Parameter(torch.ones(1, 1, width))

    def forward(
        self, queries: Tensor, query_pos: Tensor, tokens: Tensor, attn_mask: Tensor
    ) -> Tensor:
        """The update of the queries, (B, Q, D); the caller adds it to `queries`.

        `queries`, `query_pos` (B, Q, D); `tokens` (B, D, H, W) with their position table added;
        `attn_mask` (B, Q, N) bool, true where a token is outside the query's mask.
        """
        keys = unit_length(self.feature_proj(tokens), dim=-1)  # (B, N, D)
        query = unit_length(self.query_proj(queries + query_pos), dim=-1)  # (B, Q, D)
        index = self.select_prototypes(query, keys, attn_mask)  # (B, h, Q)
        prototypes = self.gather_prototypes(keys, index)  # (B, Q, D)
        modulated = unit_length(self.proj(prototypes * query), dim=1)  # (B, Q, D), across queries
        return self.final(modulated * self.alpha + prototypes)  # (B, Q, D)

    def select_prototypes(self, query: Tensor, keys: Tensor, attn_mask: Tensor) -> Tensor:
        """Index of the most similar token inside each query's mask, per head: (B, h, Q) int64.

        A query with an empty mask selects token 0; but if every mask of an image is empty,
        nothing is masked in that image.
        """
        is_empty = attn_mask.all(dim=-1, keepdim=True)  # (B, Q, 1)
        attn_mask = attn_mask & ~is_empty.all(dim=1, keepdim=True)  # (B, Q, N)
        similarity = self._split_heads(query) @ self._split_heads(keys).transpose(2, 3)
        similarity = similarity.masked_fill(attn_mask.unsqueeze(1), -torch.inf)  # (B, h, Q, N)
        return similarity.argmax(dim=-1)  # (B, h, Q); the first one, 0, where all are -inf

    def gather_prototypes(self, keys: Tensor, index: Tensor) -> Tensor:
        """The selected tokens' keys, each head's own channels: (B, Q, D)."""
        split = self._split_heads(keys)  # (B, h, N, d)
        index = index.unsqueeze(-1).expand(-1, -1, -1, split.shape[-1])  # (B, h, Q, d)
        selected = split.gather(2, index)  # (B, h, Q, d)
        return selected.transpose(1, 2).flatten(2)  # (B, Q, D)

    def _split_heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, h, N or Q, d)


class SelfAttention(nn.Module):
    """Softmax attention among the queries, pre-norm, with a residual connection."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.norm = nn.LayerNorm(width)
        nn.init.xavier_uniform_(self.self_attn.out_proj.weight)

    def forward(self, queries: Tensor, query_pos: Tensor) -> Tensor:
        v = self.norm(queries)
        qk = v + query_pos
        attended, _ = self.self_attn(qk, qk, v, need_weights=False)  # (B, Q, D)
        return queries + attended  # (B, Q, D)


class FeedForward(nn.Module):
    """A two-layer MLP on each query, pre-norm, with a residual connection."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(width, hidden)
        self.linear2 = nn.Linear(hidden, width)
        self.norm = nn.LayerNorm(width)
        nn.init.xavier_uniform_(self.linear1.weight)
        nn.init.xavier_uniform_(self.linear2.weight)

    def forward(self, queries: Tensor) -> Tensor:
        return queries + self.linear2(F.relu(self.linear1(self.norm(queries))))  # (B, Q, D)
