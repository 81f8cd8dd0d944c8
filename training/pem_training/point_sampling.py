"""Sampling maps at a few points instead of at every pixel (PointRend, Kirillov et al., 2020).

B maps of C channels, H and W their size, P points. A point is (x, y), each 0..1 across the
image, so that one point means the same position on maps of different sizes.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def random_points(count: int, points: int, generator: torch.Generator) -> Tensor:
    """`count` sets of uniform points, (count, points, 2), on the generator's device."""
    return torch.rand(count, points, 2, generator=generator, device=generator.device)


def point_sample(maps: Tensor, points: Tensor) -> Tensor:
    """Sample `maps` (B, C, H, W) at `points` (B, P, 2), bilinearly by pixel centres: (B, C, P).

    Beyond the outermost pixel centres a map falls off to 0.
    """
    if torch.are_deterministic_algorithms_enabled():
        return _gather(maps, points)  # the gradient of the other way is not, on a GPU
    grid = (2 * points - 1).unsqueeze(2).to(maps.dtype)  # (B, P, 1, 2) from -1 to 1
    return F.grid_sample(maps, grid, align_corners=False).squeeze(3)  # (B, C, P)


def uncertain_points(
    logits: Tensor,
    points: int,
    oversample: float,
    importance: float,
    generator: torch.Generator,
    valid: Tensor | None = None,
) -> Tensor:
    """Points where masks are hard to decide: (M, points, 2) for `logits` (M, H, W).

    Of `oversample` times as many random points, those with the logit nearest to 0 are kept; they
    are the share `importance` of the result, the rest is random. Points outside `valid`, a map
    of any size, bool, are chosen only if there are not enough others.
    """
    chosen = int(points * importance)
    with torch.no_grad():
        candidates = random_points(len(logits), int(points * oversample), generator)
        certainty = point_sample(logits[:, None], candidates)[:, 0].abs()  # (M, candidates)
        if valid is not None:
            maps = valid.to(logits.dtype).expand(len(logits), 1, -1, -1)
            certainty[point_sample(maps, candidates)[:, 0] < 0.5] = torch.inf
        nearest = certainty.topk(chosen, dim=1, largest=False).indices  # (M, chosen)
        taken = candidates.gather(1, nearest[..., None].expand(-1, -1, 2))  # (M, chosen, 2)
        rest = random_points(len(logits), points - chosen, generator)
        return torch.cat((taken, rest), dim=1)  # (M, points, 2)


def _gather(maps: Tensor, points: Tensor) -> Tensor:
    """`point_sample` by indexing: slower, but its gradient adds up in the same order every time."""
    height, width = maps.shape[2:]
    position = points.to(maps.dtype) * points.new_tensor((width, height)) - 0.5  # (B, P, 2)
    low = position.floor()
    result = maps.new_zeros(())
    for corner in ((0, 0), (0, 1), (1, 0), (1, 1)):
        near = low + low.new_tensor(corner)  # (B, P, 2): x and y of one neighbouring pixel
        x, y = near.unbind(-1)
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        weight = (1 - (position - near).abs()).prod(-1) * inside  # (B, P)
        index = y.clamp(0, height - 1) * width + x.clamp(0, width - 1)
        index = index.long()[:, None].expand(-1, maps.shape[1], -1)  # (B, C, P)
        result = result + maps.flatten(2).gather(2, index) * weight[:, None]
    return result
