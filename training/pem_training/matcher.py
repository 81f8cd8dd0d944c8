"""DETR's `HungarianMatcher`: the one-to-one assignment of queries and targets of least cost.

Q queries, K classes, N targets of one image, P points.
"""

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F

CLASS_COST, MASK_COST, DICE_COST = 2.0, 5.0, 5.0


def hungarian_match(
    logits: Tensor, mask_logits: Tensor, labels: Tensor, masks: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor]:
    """Match queries with targets; returns their indices, two (min(Q, N),) int64, by query.

    `logits` (Q, K + 1), the last column "no object"; `mask_logits` (Q, P) and `masks` (N, P) the
    masks at the same points; `labels` (N,) class ids; `weights` (P,) of the points.
    """
    with torch.no_grad():
        costs = cost_matrix(logits, mask_logits, labels, masks, weights)
    if not torch.isfinite(costs).all():
        raise FloatingPointError("the network's output must be finite, but holds NaN or infinity")
    queries, targets = linear_sum_assignment(costs.cpu().numpy())
    device = logits.device
    return torch.from_numpy(queries).to(device), torch.from_numpy(targets).to(device)


def cost_matrix(
    logits: Tensor, mask_logits: Tensor, labels: Tensor, masks: Tensor, weights: Tensor
) -> Tensor:
    """The cost of each pair, (Q, N); arguments as for `hungarian_match`."""
    class_cost = -logits.softmax(dim=-1)[:, labels]  # (Q, N); "no object" is in the softmax
    inside = masks * weights  # (N, P)
    # Cross-entropy with logits is softplus(x) - x t, so that all pairs are one product.
    mask_cost = (F.softplus(mask_logits) @ weights)[:, None] - mask_logits @ inside.T  # (Q, N)
    mask_cost = mask_cost / weights.sum().clamp_min(1)
    p = mask_logits.sigmoid()  # (Q, P)
    intersection = p @ inside.T  # (Q, N)
    sizes = (p @ weights)[:, None] + inside.sum(-1)  # (Q, N)
    dice_cost = 1 - (2 * intersection + 1) / (sizes + 1)
    return CLASS_COST * class_cost + MASK_COST * mask_cost + DICE_COST * dice_cost
