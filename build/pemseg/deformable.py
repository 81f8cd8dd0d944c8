"""Modulated deformable convolution (Zhu et al., 2019) from operations that run and export anywhere.

B batch, C channels in, D channels out, K kernel points (9 for 3x3), H and W the map.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ModulatedDeformConv(nn.Module):
    """A convolution without bias whose kernel points are shifted and weighted at each pixel."""

    def __init__(self, c_in: int, c_out: int, kernel: int = 3) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(c_out, c_in, kernel, kernel))
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")
        self.kernel = kernel

    def forward(self, x: Tensor, offset: Tensor, modulation: Tensor) -> Tensor:
        """Sample `x` at the shifted kernel points of each pixel, weight by `modulation`, convolve.

        `x` (B, C, H, W). `offset` (B, 2K, H, W) in pixels: channel 2k moves kernel point k down,
        2k + 1 to the right. `modulation` (B, K, H, W). `x` is zero outside the map.
        Returns (B, D, H, W).
        """
        # As plain numbers, or the exported graph would compute its own shapes.
        c_in, height, width = (int(length) for length in x.shape[1:])
        points = self.kernel**2
        grid = self._sampling_grid(offset, height, width)  # (B, K*H, W, 2)
        sampled = F.grid_sample(x, grid, "bilinear", "zeros", align_corners=False)
        sampled = sampled.reshape(-1, c_in, points, height, width)  # (B, C, K, H, W)
        sampled = sampled * modulation.unsqueeze(1)  # (B, C, K, H, W)
        columns = sampled.reshape(-1, c_in * points, height * width)  # (B, C*K, H*W)
        out = self.weight.flatten(1) @ columns  # (B, D, H*W)
        return out.reshape(-1, self.weight.shape[0], height, width)  # (B, D, H, W)

    def _sampling_grid(self, offset: Tensor, height: int, width: int) -> Tensor:
        """The sampling points, in grid_sample's -1..1, (B, K*H, W, 2)."""
        points, reach = self.kernel**2, self.kernel // 2
        row = torch.arange(height, dtype=offset.dtype, device=offset.device).view(1, 1, height, 1)
        col = torch.arange(width, dtype=offset.dtype, device=offset.device).view(1, 1, 1, width)
        point = torch.arange(points, device=offset.device).view(1, points, 1, 1)
        moved = offset.reshape(-1, points, 2, height, width)  # (B, K, 2, H, W)
        y = row + (point // self.kernel - reach) + moved[:, :, 0]  # (B, K, H, W)
        x = col + (point % self.kernel - reach) + moved[:, :, 1]  # (B, K, H, W)
        # Pixel centers of grid_sample without align_corners: -1 and 1 are the outer edges.
        grid = torch.stack(((2 * x + 1) / width - 1, (2 * y + 1) / height - 1), dim=-1)
        return grid.reshape(-1, points * height, width, 2)  # (B, K*H, W, 2)
