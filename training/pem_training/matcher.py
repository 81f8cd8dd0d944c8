"""Which query answers for which object: the cheapest one-to-one assignment (DETR's matcher).

Q queries, K classes, N objects of one image, P points.
"""

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F

CLASS_COST, MASK_COST, DICE_COST = 2.0, 5.0, 5.0


def match(
    logits: Tensor, mask_logits: Tensor, classes: Tensor, masks: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor]:
    """Pair queries with objects; returns their indices, two (min(Q, N),) int64, by query.

    `logits` (Q, K + 1), the last column "no object"; `mask_logits` (Q, P) and `masks` (N, P) the
    masks at the same points; `classes` (N,); `weights` (P,) how much each point counts.
    """
    with torch.no_grad():
        costs = pair_costs(logits, mask_logits, classes, masks, weights)
    if not torch.isfinite(costs).all():
        raise FloatingPointError("the network's answer must be finite, but holds NaN or infinity")
    queries, objects = linear_sum_assignment(costs.cpu().numpy())
    device = logits.device
    return torch.from_numpy(queries).to(device), torch.from_numpy(objects).to(device)


def pair_costs(
    logits: Tensor, mask_logits: Tensor, classes: Tensor, masks: Tensor, weights: Tensor
) -> Tensor:
    """What each pair would cost, (Q, N); arguments as for `match`."""
    class_cost = -logits.softmax(dim=-1)[:, classes]  # (Q, N); "no object" is in the softmax
    inside = masks * weights  # (N, P)
    # Cross-entropy with logits is softplus(x) - x t, so that all pairs are one product.
    mask_cost = (F.softplus(mask_logits) @ weights)[:, None] - mask_logits @ inside.T  # (Q, N)
    mask_cost = mask_cost / weights.sum().clamp_min(1)
    shares = mask_logits.sigmoid()  # (Q, P)
    both = shares @ inside.T  # (Q, N)
    either = (shares @ weights)[:, None] + inside.sum(-1)  # (Q, N)
    dice_cost = 1 - (2 * both + 1) / (either + 1)
    return CLASS_COST * class_cost + MASK_COST * mask_cost + DICE_COST * dice_cost
