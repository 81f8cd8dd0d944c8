"""Fuse batch norms into the convolutions before them, for inference.

y = g * (conv(x) - m) / sqrt(v + eps) + b is a convolution with scaled weights and a bias. The
scale is kept beside the weight instead of being multiplied in, so that weights which were stored
in half precision stay exactly representable in half precision: the exported file is half as large
and exact. Every runtime multiplies the two constants once, when it loads the graph.
"""

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pemseg.backbone import CatBottleneck, ConvBnRelu
from pemseg.deformable import ModulatedDeformConv
from pemseg.pixel_decoder import ChannelWeights, RefineAndUpsample

Network = TypeVar("Network", bound=nn.Module)


def smallest_exact(weight: Tensor) -> Tensor:
    """`weight` in half precision if that is exact, else unchanged."""
    half = weight.detach().half()
    return half if torch.equal(half.to(weight.dtype), weight.detach()) else weight.detach()


class FoldedConv(nn.Module):
    """A convolution, or a transposed one, with a scale and a bias for each channel out."""

    weight: Tensor
    scale: Tensor | None
    bias: Tensor | None

    def __init__(
        self,
        conv: nn.Conv2d | nn.ConvTranspose2d,
        scale: Tensor | None = None,
        bias: Tensor | None = None,
    ) -> None:
        """Takes the weight of `conv` and its geometry, not its bias. `scale`, `bias` (C_out,)."""
        super().__init__()
        self.transposed = isinstance(conv, nn.ConvTranspose2d)
        self.stride, self.groups = conv.stride, conv.groups
        assert not isinstance(conv.padding, str)
        self.padding = conv.padding
        self.register_buffer("weight", smallest_exact(conv.weight))
        shape = (1, -1, 1, 1) if self.transposed else (-1, 1, 1, 1)
        self.register_buffer("scale", None if scale is None else scale.view(shape))
        self.register_buffer("bias", bias)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight.to(x.dtype)
        if self.scale is not None:
            weight = weight * self.scale
        if self.transposed:
            return F.conv_transpose2d(x, weight, self.bias, self.stride, self.padding)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding, groups=self.groups)


class CompactLinear(nn.Module):
    """x W + b over the last axis, W (in, out) stored small where that is exact."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        """`weight` (out, in) as in `torch.nn.Linear`; `bias` broadcasts against the result."""
        super().__init__()
        self.register_buffer("weight", smallest_exact(weight.T.contiguous()))
        self.register_buffer("bias", None if bias is None else bias.detach())

    def forward(self, x: Tensor) -> Tensor:
        out = x @ self.weight.to(x.dtype)
        return out if self.bias is None else out + self.bias


def compact(linear: nn.Module) -> CompactLinear:
    """The same linear layer, stored small."""
    assert isinstance(linear, nn.Linear)
    return CompactLinear(linear.weight, linear.bias)


def norm_as_affine(bn: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """The scale and shift (C,) that an evaluated batch norm applies."""
    assert bn.running_mean is not None
    assert bn.running_var is not None
    scale = bn.weight / torch.sqrt(bn.running_var + bn.eps)
    return scale.detach(), (bn.bias - bn.running_mean * scale).detach()


def fold(conv: nn.Module, bn: nn.Module) -> FoldedConv:
    """One module for a bias-free convolution and the batch norm behind it."""
    assert isinstance(conv, nn.Conv2d | nn.ConvTranspose2d)
    assert isinstance(bn, nn.BatchNorm2d)
    return FoldedConv(conv, *norm_as_affine(bn))


def folded_copy(network: Network) -> Network:
    """A copy of a backbone or pixel decoder without batch norms; same function, same forward."""
    network = copy.deepcopy(network)
    for module in list(network.modules()):
        if isinstance(module, ConvBnRelu):
            module.conv, module.bn = fold(module.conv, module.bn), nn.Identity()
        elif isinstance(module, CatBottleneck) and module.stride == 2:
            module.avd_layer = nn.Sequential(fold(*module.avd_layer))
        elif isinstance(module, ChannelWeights):
            squeeze, norm, *rest = module.mlp
            module.mlp = nn.Sequential(fold(squeeze, norm), *rest)
        elif isinstance(module, RefineAndUpsample):
            module.up_sample = fold(module.up_sample, module.up_bn)
            module.up_bn = nn.Identity()
            if not isinstance(module.dcn, ModulatedDeformConv):
                module.dcn, module.dcn_bn = fold(module.dcn, module.dcn_bn), nn.Identity()
    return network
