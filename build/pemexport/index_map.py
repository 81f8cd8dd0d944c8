"""The index map at full size: the query of each pixel, without upsampling every mask.

Upsampling Q masks bilinearly and taking the argmax at each pixel reads and writes Q full-size masks
to keep one number per pixel: of the whole network, that took most time and memory. Between four
neighboring points of the small masks, though, few queries can be the maximum. Here only those
compete that are the maximum at one of the four, by the same arithmetic.

The difference is a query that wins between four points without winning at any of them: on street
photographs one pixel in ten thousand, at the edges of masks. The export measures it, and upsamples
all masks of a network where it is too large.

B batch, Q queries, H W the size of the small masks, F the factor.
A cell is the square between four neighboring points; with the border there are (H + 1)(W + 1).
"""

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CORNERS = tuple(itertools.product((0, 1), repeat=2))  # of a cell: (down, right)
AROUND = tuple(itertools.product((-1, 0, 1), repeat=2))  # a point and its eight neighbors


class IndexMap(nn.Module):
    """The argmax over weighted masks at each pixel after upsampling by `factor`.

    Bilinear, by pixel centers. Its convolutions have no learned weights: they gather neighbors
    and interpolate.
    """

    rows: Tensor
    columns: Tensor
    see_around: Tensor
    see_corners: Tensor
    interpolate: Tensor

    def __init__(
        self, queries: int, height: int, width: int, factor: int, *, upsample_all: bool = False
    ) -> None:
        """`height`, `width` of the small masks; `factor` 1 or even; `upsample_all`: exact."""
        super().__init__()
        self.upsample_all = upsample_all
        self.queries, self.height, self.width, self.factor = queries, height, width, factor
        # Beyond the border, its own values.
        rows = torch.arange(-1, height + 1).clamp(0, height - 1) * width
        self.register_buffer("rows", rows[:, None])  # (H + 2, 1)
        self.register_buffer("columns", torch.arange(-1, width + 1).clamp(0, width - 1))  # (W + 2,)
        self.register_buffer("see_around", torch.eye(9).reshape(9, 1, 3, 3))
        self.register_buffer("see_corners", torch.eye(4).reshape(4, 1, 2, 2))
        self.register_buffer("interpolate", interpolation(factor))

    def forward(self, weighted: Tensor) -> Tensor:
        """`weighted` (B, Q, H, W); returns (B, HF, WF) uint8."""
        if self.upsample_all and self.factor > 1:
            weighted = F.interpolate(
                weighted, scale_factor=self.factor, mode="bilinear", align_corners=False
            )  # (B, Q, HF, WF)
        winners = weighted.argmax(dim=1, keepdim=True).to(self.see_around)  # (B, 1, H or HF, ...)
        if self.factor > 1 and not self.upsample_all:
            winners = self.upsampled(weighted, winners)  # (B, 1, HF, WF)
        # By way of float32: TensorRT casts to uint8 from float types only.
        return winners.squeeze(1).to(torch.float32).to(torch.uint8)

    def upsampled(self, weighted: Tensor, winners: Tensor) -> Tensor:
        """The winner of each pixel among the winners of its cell's corners: (B, 1, HF, WF)."""
        winners = F.pad(winners, (2, 2, 2, 2), mode="replicate")  # (B, 1, H + 4, W + 4)
        values = self.values_of_neighbors(weighted, winners)  # (B, 9, H + 2, W + 2)
        inside = F.conv2d(values, self.interpolate)  # (B, 4FF, H + 1, W + 1)
        contenders = F.conv2d(winners[:, :, 1:-1, 1:-1], self.see_corners)  # (B, 4, H + 1, W + 1)
        best, *others = inside.split(self.factor**2, dim=1)  # each (B, FF, H + 1, W + 1)
        winner, *rivals = contenders.split(1, dim=1)  # each (B, 1, H + 1, W + 1)
        for rival, value in zip(rivals, others, strict=True):
            winner = torch.where(value > best, rival, winner)  # (B, FF, H + 1, W + 1)
            best = torch.maximum(best, value)  # (B, FF, H + 1, W + 1)
        margin = self.factor // 2  # the cells at the border lie half outside
        return F.pixel_shuffle(winner, self.factor)[:, :, margin:-margin, margin:-margin]

    def values_of_neighbors(self, weighted: Tensor, winners: Tensor) -> Tensor:
        """The values at each point of the winners around it: (B, 9, H + 2, W + 2)."""
        around = F.conv2d(winners, self.see_around).to(torch.int64)  # (B, 9, H + 2, W + 2)
        index = around * (self.height * self.width) + (self.rows + self.columns)
        count = len(AROUND) * (self.height + 2) * (self.width + 2)
        flat = weighted.reshape(-1, self.queries * self.height * self.width)  # (B, QHW)
        values = flat.gather(1, index.reshape(-1, count))  # (B, 9(H + 2)(W + 2))
        return values.reshape(-1, len(AROUND), self.height + 2, self.width + 2)


def interpolation(factor: int) -> Tensor:
    """Weights of the convolution from neighbors to the inside of a cell: (4FF, 9, 2, 2).

    For the winner of each corner in turn, its value in each pixel of the cell, row by row. Seen
    from a corner of the cell, the winner of another corner is the winner of a neighboring point.
    """
    share = (torch.arange(factor) + 0.5) / factor  # of the lower, or the right, corner
    side = torch.stack([1 - share, share], dim=1)  # (F, 2)
    shares = torch.kron(side, side)  # (FF, 4)
    weights = torch.zeros(len(CORNERS), factor**2, len(AROUND), 2, 2)
    for number, (its_down, its_right) in enumerate(CORNERS):
        for corner, (down, right) in enumerate(CORNERS):
            neighbor = AROUND.index((its_down - down, its_right - right))
            weights[number, :, neighbor, down, right] = shares[:, corner]
    return weights.flatten(0, 1)  # (4FF, 9, 2, 2)
