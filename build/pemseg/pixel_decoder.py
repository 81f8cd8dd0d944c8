"""The efficient multi-scale pixel decoder: features of four strides to mask features.

B batch, C `pixel_width` channels, D `decoder_width` channels, H and W the size of the image.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .backbone import ConvBnRelu
from .deformable import ModulatedDeformConv


class ChannelWeights(nn.Module):
    """Squeeze to the global mean, then one weight in 0..1 for each channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Conv2d(channels, channels // 2, 1, bias=False),
            nn.BatchNorm2d(channels // 2),
            nn.ReLU(),
            nn.Conv2d(channels // 2, channels, 1, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.mlp(x.mean(dim=(2, 3), keepdim=True))  # (B, C, 1, 1)


class ContextSelfModulation(nn.Module):
    """CSM: amplify channels by their weight in the whole image."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(ChannelWeights(channels))

    def forward(self, x: Tensor) -> Tensor:
        # The second sigmoid is the published network's own; the factor is between 1.5 and 1.731.
        return x + x * torch.sigmoid(self.mlp(x))


class RefineAndUpsample(nn.Module):
    """A 3x3 convolution, then twice the size by a transposed convolution."""

    def __init__(self, channels: int, *, deformable: bool) -> None:
        super().__init__()
        if deformable:
            points = 9  # of a 3x3 kernel, each with two offsets and one modulation
            self.dcn_offset = nn.Conv2d(channels, 3 * points, 3, padding=1)
            self.dcn: nn.Module = ModulatedDeformConv(channels, channels)
            for value in self.dcn_offset.parameters():
                nn.init.zeros_(value)  # the kernel starts unmoved
        else:
            conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
            self.dcn = conv
        self.deformable = deformable
        self.dcn_bn: nn.Module = nn.BatchNorm2d(channels)
        up_sample = nn.ConvTranspose2d(channels, channels, 4, stride=2, padding=1, bias=False)
        _start_as_bilinear(up_sample.weight)
        self.up_sample: nn.Module = up_sample
        self.up_bn: nn.Module = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """`x` (B, C, h, w); returns the refined map and the same at (2h, 2w)."""
        refined = F.relu(self.dcn_bn(self._convolve(x)))  # (B, C, h, w)
        upsampled = F.relu(self.up_bn(self.up_sample(refined)))  # (B, C, 2h, 2w)
        return refined, upsampled

    def _convolve(self, x: Tensor) -> Tensor:
        if not self.deformable:
            return self.dcn(x)
        offset, modulation = self.dcn_offset(x).split((18, 9), dim=1)
        return self.dcn(x, offset, modulation.sigmoid())


def _start_as_bilinear(weight: Tensor) -> None:
    """Set the first output channel of each input to bilinear upsampling, as PEM starts."""
    ramp = torch.tensor([0.25, 0.75, 0.75, 0.25])
    with torch.no_grad():
        weight[:, 0] = torch.outer(ramp, ramp)


class PixelDecoder(nn.Module):
    """A convolutional feature pyramid, coarse to fine, with CSM on every level."""

    def __init__(
        self, widths: Sequence[int], channels: int, out_channels: int, *, deformable: bool
    ) -> None:
        """`widths` of the backbone's features, finest first."""
        super().__init__()
        self.in_projections = nn.ModuleList(ConvBnRelu(w, channels, 1) for w in widths)
        self.conv_avg = ConvBnRelu(widths[-1], channels, 1)
        self.csm = nn.ModuleList(ContextSelfModulation(channels) for _ in widths)
        self.dcn = nn.ModuleList(
            RefineAndUpsample(channels, deformable=deformable) for _ in range(3)
        )
        self.out = ConvBnRelu(channels, out_channels, 1)
        for projection in (self.in_projections, self.conv_avg, self.out):
            for name, value in projection.named_parameters():
                if name.endswith("conv.weight"):
                    nn.init.kaiming_normal_(value, a=1)

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """`features` res2 .. res5; returns mask features (B, D, H/4, W/4) and x_32, x_16, x_8."""
        res2, res3, res4, res5 = features
        p2, p3, p4, p5 = self.in_projections
        context = self.conv_avg(res5.mean(dim=(2, 3), keepdim=True))  # (B, C, 1, 1)
        x_32, up = self.dcn[0](self.csm[0](p5(res5)) + context)
        x_16, up = self.dcn[1](self.csm[1](p4(res4)) + up)
        x_8, up = self.dcn[2](self.csm[2](p3(res3)) + up)
        x_4 = self.csm[3](p2(res2)) + up  # (B, C, H/4, W/4)
        return self.out(x_4), [x_32, x_16, x_8]
