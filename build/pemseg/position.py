"""The sine position table: where a token lies, as a vector (Mask2Former's, and DETR's before)."""

import math

import torch
from torch import Tensor

TEMPERATURE = 10_000.0


def position_table(height: int, width: int, channels: int) -> Tensor:
    """Sines and cosines of row (first half of the channels) and column, (channels, H, W) float32.

    Always float32, whatever the network's type: so were the tables that trained weights know.
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
