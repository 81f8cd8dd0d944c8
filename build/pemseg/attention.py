"""The three parts of a decoder layer: prototype cross-attention, self-attention, feed-forward.

B batch, Q queries, D `decoder_width` channels, h heads of d = D / h channels, N tokens (the
pixels of one level of the pixel decoder, H x W of them).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

NORM_FLOOR = 1e-12  # divisor's least value where vectors are scaled to length one


def unit_length(x: Tensor, dim: int) -> Tensor:
    """`x` divided by its L2 norm along `dim`; same shape."""
    return x / x.norm(dim=dim, keepdim=True).clamp_min(NORM_FLOOR)


class LocalFeatures(nn.Module):
    """The keys: a level's map with its surroundings mixed in, one vector for each token."""

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
    """PEM-CA (the PEM paper, section 3.2): each query meets one token a head, its prototype.

    Instead of a softmax over all tokens, the most similar token is chosen and multiplied in.
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
        self, queries: Tensor, query_pos: Tensor, tokens: Tensor, outside: Tensor
    ) -> Tensor:
        """What the queries learn from the tokens, (B, Q, D); the caller adds it to `queries`.

        `queries`, `query_pos` (B, Q, D); `tokens` (B, D, H, W) with its position table added;
        `outside` (B, Q, N) bool, true where a token is not part of the query's mask.
        """
        keys = unit_length(self.feature_proj(tokens), dim=-1)  # (B, N, D)
        wanted = unit_length(self.query_proj(queries + query_pos), dim=-1)  # (B, Q, D)
        prototypes = self.gather_prototypes(keys, self.choose_tokens(keys, wanted, outside))
        met = unit_length(self.proj(prototypes * wanted), dim=1)  # (B, Q, D), across queries
        return self.final(met * self.alpha + prototypes)  # (B, Q, D)

    def choose_tokens(self, keys: Tensor, wanted: Tensor, outside: Tensor) -> Tensor:
        """The most similar token inside each query's mask, for each head: (B, h, Q) int64.

        Where a query's mask has no token, token 0 is taken; but where that is so for every query
        of an image, nothing is masked in that image.
        """
        nothing_inside = outside.all(dim=-1, keepdim=True)  # (B, Q, 1)
        outside = outside & ~nothing_inside.all(dim=1, keepdim=True)  # (B, Q, N)
        similarity = self._split_heads(wanted) @ self._split_heads(keys).transpose(2, 3)
        similarity = similarity.masked_fill(outside.unsqueeze(1), -torch.inf)  # (B, h, Q, N)
        return similarity.argmax(dim=-1)  # (B, h, Q); the first one, 0, where all are -inf

    def gather_prototypes(self, keys: Tensor, index: Tensor) -> Tensor:
        """The chosen tokens' keys, each head's own part: (B, Q, D)."""
        split = self._split_heads(keys)  # (B, h, N, d)
        index = index.unsqueeze(-1).expand(-1, -1, -1, split.shape[-1])  # (B, h, Q, d)
        chosen = split.gather(2, index)  # (B, h, Q, d)
        return chosen.transpose(1, 2).flatten(2)  # (B, Q, D)

    def _split_heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, h, N or Q, d)


class MultiHeadAttention(nn.Module):
    """Softmax attention with the parameters and names of `torch.nn.MultiheadAttention`.

    Written out because the library's module also computes averaged weights that nobody reads.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, located: Tensor, plain: Tensor) -> Tensor:
        """Queries and keys from `located`, values from `plain`; all (B, Q, D)."""
        w_q, w_k, w_v = self.in_proj_weight.chunk(3)
        b_q, b_k, b_v = self.in_proj_bias.chunk(3)
        q = self._split_heads(F.linear(located, w_q, b_q))  # (B, h, Q, d)
        k = self._split_heads(F.linear(located, w_k, b_k))  # (B, h, Q, d)
        v = self._split_heads(F.linear(plain, w_v, b_v))  # (B, h, Q, d)
        weights = (q @ k.transpose(2, 3) / q.shape[-1] ** 0.5).softmax(dim=-1)  # (B, h, Q, Q)
        return self.out_proj((weights @ v).transpose(1, 2).flatten(2))  # (B, Q, D)

    def _split_heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, h, Q, d)


class SelfAttention(nn.Module):
    """The queries look at each other; normalised before, added after."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.self_attn = MultiHeadAttention(width, heads)
        self.norm = nn.LayerNorm(width)
        nn.init.xavier_uniform_(self.self_attn.in_proj_weight)
        nn.init.xavier_uniform_(self.self_attn.out_proj.weight)

    def forward(self, queries: Tensor, query_pos: Tensor) -> Tensor:
        normed = self.norm(queries)
        return queries + self.self_attn(normed + query_pos, normed)  # (B, Q, D)


class FeedForward(nn.Module):
    """Two linear layers for each query by itself; normalised before, added after."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(width, hidden)
        self.linear2 = nn.Linear(hidden, width)
        self.norm = nn.LayerNorm(width)
        nn.init.xavier_uniform_(self.linear1.weight)
        nn.init.xavier_uniform_(self.linear2.weight)

    def forward(self, queries: Tensor) -> Tensor:
        return queries + self.linear2(F.relu(self.linear1(self.norm(queries))))  # (B, Q, D)
