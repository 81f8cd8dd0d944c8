"""STDC, the backbone: short-term dense concatenation (Fan et al., 2021).

B batch, C channels, H and W the size of the image.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ConvBnRelu(nn.Module):
    """Convolution, batch norm, ReLU; padded so that only the stride changes the size."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        conv = nn.Conv2d(c_in, c_out, kernel, stride, padding=kernel // 2, bias=False)
        self.conv: nn.Module = conv
        self.bn: nn.Module = nn.BatchNorm2d(c_out)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class CatBottleneck(nn.Module):
    """Four convolutions of shrinking width whose outputs are concatenated, not summed."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        half, quarter, eighth = c_out // 2, c_out // 4, c_out // 8
        self.conv_list = nn.ModuleList(
            [
                ConvBnRelu(c_in, half, 1),
                ConvBnRelu(half, quarter, 3),
                ConvBnRelu(quarter, eighth, 3),
                ConvBnRelu(eighth, eighth, 3),
            ]
        )
        self.stride = stride
        if stride == 2:
            self.avd_layer = nn.Sequential(
                nn.Conv2d(half, half, 3, stride=2, padding=1, groups=half, bias=False),
                nn.BatchNorm2d(half),
            )
            self.skip = nn.AvgPool2d(3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        first, *rest = self.conv_list
        wide = first(x)  # (B, C/2, H, W)
        out = wide
        if self.stride == 2:
            out, wide = self.avd_layer(wide), self.skip(wide)  # both (B, C/2, H/2, W/2)
        parts = [wide]
        for conv in rest:
            out = conv(out)
            parts.append(out)
        return torch.cat(parts, dim=1)  # (B, C, H/stride, W/stride)


class Stdc(nn.Module):
    """Image to features of `widths` channels at strides 4, 8, 16 and 32.

    `features` is one flat list, because its indices are the keys of the published checkpoints.
    """

    def __init__(self, widths: Sequence[int], block_counts: Sequence[int]) -> None:
        super().__init__()
        stem, *stages = widths
        blocks: list[nn.Module] = [
            ConvBnRelu(3, stem // 2, 3, 2),
            ConvBnRelu(stem // 2, stem, 3, 2),
        ]
        self.ends = [1]  # indices in `features` whose output is a feature map
        c_in = stem
        for c_out, count in zip(stages, block_counts, strict=True):
            blocks.append(CatBottleneck(c_in, c_out, stride=2))
            blocks.extend(CatBottleneck(c_out, c_out, stride=1) for _ in range(count - 1))
            self.ends.append(len(blocks) - 1)
            c_in = c_out
        self.features = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> list[Tensor]:
        """`x` (B, 3, H, W), normalised, H and W multiples of 32; returns res2 .. res5."""
        maps = []
        for index, block in enumerate(self.features):
            x = block(x)
            if index in self.ends:
                maps.append(x)
        return maps
