"""The deformable convolution against its definition, written out pixel by pixel."""

import math

import numpy as np
import torch
from numpy.typing import NDArray

from pemseg.deformable import ModulatedDeformConv

Array = NDArray[np.float64]


def by_definition(x: Array, offset: Array, modulation: Array, weight: Array) -> Array:
    """out(p) = sum over kernel points k of w_k * m_k(p) * x(p + p_k + offset_k(p)), bilinear."""
    _, height, width = x.shape
    out = np.zeros((weight.shape[0], height, width))
    for row in range(height):
        for col in range(width):
            for k in range(9):
                y = row + k // 3 - 1 + offset[2 * k, row, col]
                z = col + k % 3 - 1 + offset[2 * k + 1, row, col]
                value = modulation[k, row, col] * bilinear(x, y, z)
                out[:, row, col] += weight[:, :, k // 3, k % 3] @ value
    return out


def bilinear(x: Array, y: float, z: float) -> Array:
    """Four corners, each zero outside the map by itself."""
    total = np.zeros(x.shape[0])
    for i in (math.floor(y), math.floor(y) + 1):
        for j in (math.floor(z), math.floor(z) + 1):
            if 0 <= i < x.shape[1] and 0 <= j < x.shape[2]:
                total += x[:, i, j] * (1 - abs(y - i)) * (1 - abs(z - j))
    return total


def test_it_is_the_definition_also_far_outside_the_map() -> None:
    torch.manual_seed(0)
    conv = ModulatedDeformConv(3, 4).double()
    x = torch.randn(2, 3, 5, 7, dtype=torch.float64)
    offset = 4 * torch.randn(2, 18, 5, 7, dtype=torch.float64)
    modulation = torch.rand(2, 9, 5, 7, dtype=torch.float64)
    out = conv(x, offset, modulation).detach().numpy()
    weight = conv.weight.detach().numpy()
    for b in range(2):
        expected = by_definition(x[b].numpy(), offset[b].numpy(), modulation[b].numpy(), weight)
        np.testing.assert_allclose(out[b], expected, atol=1e-12)
