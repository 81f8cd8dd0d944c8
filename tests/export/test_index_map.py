"""The enlarged index map against enlarging every mask."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pemexport.index_map import IndexMap


def enlarge_all(weighted: Tensor, factor: int) -> Tensor:
    return F.interpolate(weighted, scale_factor=factor, mode="bilinear", align_corners=False)


def corners(length: int, factor: int) -> tuple[Tensor, Tensor]:
    """For each of `length * factor` pixels, the places before and after it."""
    before = ((torch.arange(length * factor) + 0.5) / factor - 0.5).floor().long()
    return before.clamp(0, length - 1), (before + 1).clamp(0, length - 1)


def may_win(weighted: Tensor, factor: int) -> Tensor:
    """Whether a query is the greatest at a corner of a pixel's cell: (B, Q, HF, WF)."""
    batch, queries, height, width = weighted.shape
    found = torch.zeros(batch, queries, height * factor, width * factor, dtype=torch.bool)
    winners = weighted.argmax(dim=1, keepdim=True)
    for rows in corners(height, factor):
        for columns in corners(width, factor):
            found.scatter_(1, winners[:, :, rows][:, :, :, columns], True)
    return found


@pytest.mark.parametrize("factor", [2, 4, 6])
@pytest.mark.parametrize("size", [(1, 1), (1, 5), (7, 4)])
def test_the_winner_is_the_greatest_of_those_that_win_at_a_corner(
    size: tuple[int, int], factor: int
) -> None:
    weighted = torch.rand(3, 8, *size, dtype=torch.float64, generator=torch.manual_seed(0))
    allowed = enlarge_all(weighted, factor).masked_fill(~may_win(weighted, factor), -1)
    found = IndexMap(8, *size, factor).double()(weighted)
    torch.testing.assert_close(found.long(), allowed.argmax(dim=1))


def test_a_query_that_wins_between_the_corners_only_is_what_is_lost() -> None:
    weighted = torch.tensor([[[[1.0, 0.0]], [[0.0, 1.0]], [[0.9, 0.9]]]])  # (1, 3, 1, 2)
    assert enlarge_all(weighted, 2).argmax(dim=1).unique().tolist() == [0, 1, 2]
    assert IndexMap(3, 1, 2, 2)(weighted).unique().tolist() == [0, 1]
    assert IndexMap(3, 1, 2, 2, upsample_all=True)(weighted).unique().tolist() == [0, 1, 2]
