"""The losses of the model card: `loss_ce`, `loss_dice`, `loss_mask`, on every output.

They are Mask2Former's: each object is matched with one query, the query learns the object's class
and mask, all others learn "no object". The final output's losses carry these names; those of the
auxiliary outputs, each matched afresh, end in `_0`, `_1`, ...

B batch, Q queries, K classes, N objects of an image, P points, H and W the size of the image.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from pem_training.matcher import match
from pem_training.point_sampling import random_points, sample, uncertain_points
from pem_training.targets import Target
from pem_training.world import world_mean
from pemseg import Prediction

WEIGHTS = {"loss_ce": 2.0, "loss_dice": 5.0, "loss_mask": 5.0}
NO_OBJECT_WEIGHT = 0.1  # in loss_ce; most queries have no object and would drown the others


@dataclass(frozen=True)
class Points:
    """How many points of a mask are looked at, and how they are chosen: the original's numbers."""

    count: int = 12_544
    oversample: float = 3.0
    importance: float = 0.75


def pem_losses(
    prediction: Prediction,
    targets: Sequence[Target],
    generators: Sequence[torch.Generator],
    points: Points | None = None,
) -> dict[str, Tensor]:
    """All losses by name, unweighted, in float32 (float64 if `prediction` is).

    `targets` and `generators`, one an image: an image's points are drawn from its own generator,
    so that they do not depend on which images share its batch or its process.
    """
    points = points or Points()
    objects = sum(len(target.classes) for target in targets)
    batch, queries = prediction.logits.shape[:2]
    matched = sum(min(len(target.classes), queries) for target in targets)
    counts = prediction.logits.new_tensor(
        (objects, matched + NO_OBJECT_WEIGHT * (batch * queries - matched)), dtype=torch.float64
    )
    # Means over the batches of all processes: with equal weights everywhere, the averaged gradient
    # is that of one process with the whole batch.
    num_masks, class_weight = world_mean(counts).tolist()
    losses = {}
    outputs = {"": prediction} | {f"_{i}": one for i, one in enumerate(prediction.earlier)}
    for suffix, output in outputs.items():
        ce, dice, mask = output_losses(output, targets, generators, points)
        losses[f"loss_ce{suffix}"] = ce / class_weight
        losses[f"loss_dice{suffix}"] = dice / max(num_masks, 1)
        losses[f"loss_mask{suffix}"] = mask / max(num_masks, 1)
    return losses


def total_loss(losses: Mapping[str, Tensor]) -> Tensor:
    """The weighted sum that is minimised; auxiliary outputs weigh as much as the final one."""
    name_of = {name: "_".join(name.split("_")[:2]) for name in losses}
    return torch.stack([WEIGHTS[name_of[name]] * loss for name, loss in losses.items()]).sum()


def output_losses(
    output: Prediction,
    targets: Sequence[Target],
    generators: Sequence[torch.Generator],
    points: Points,
) -> tuple[Tensor, Tensor, Tensor]:
    """The sums of loss_ce over queries, and of loss_dice and loss_mask over objects."""
    logits, masks = _full(output.logits), _full(output.masks)  # (B, Q, K + 1), (B, Q, H/4, W/4)
    no_object = logits.shape[2] - 1
    labels = torch.full(logits.shape[:2], no_object, device=logits.device)  # (B, Q)
    dice_sum = mask_sum = masks.new_zeros(())
    images = zip(logits, masks, labels, targets, generators, strict=True)
    for own_logits, own_masks, own_labels, target, generator in images:
        queries, objects = match_image(own_logits, own_masks, target, generator, points)
        own_labels[queries] = target.classes[objects]
        dice, mask = mask_losses(own_masks[queries], target, objects, generator, points)
        dice_sum, mask_sum = dice_sum + dice.sum(), mask_sum + mask.sum()
    weight = logits.new_ones(no_object + 1)
    weight[no_object] = NO_OBJECT_WEIGHT
    ce_sum = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), weight, reduction="sum")
    return ce_sum, dice_sum, mask_sum


def match_image(
    logits: Tensor, masks: Tensor, target: Target, generator: torch.Generator, points: Points
) -> tuple[Tensor, Tensor]:
    """Queries and the objects they answer for; `logits` (Q, K + 1), `masks` (Q, H/4, W/4).

    All masks are compared at one set of uniform points.
    """
    places = random_points(1, points.count, generator)  # (1, P, 2)
    mask_logits = sample(masks.detach()[None], places)[0]  # (Q, P)
    wanted = sample(target.masks[None].to(masks.dtype), places)[0]  # (N, P)
    weights = point_weights(target, places, mask_logits)[0]  # (P,)
    return match(logits.detach(), mask_logits, target.classes, wanted, weights)


def mask_losses(
    logits: Tensor, target: Target, objects: Tensor, generator: torch.Generator, points: Points
) -> tuple[Tensor, Tensor]:
    """loss_dice and loss_mask of each pair, both (M,): `logits` (M, H/4, W/4), `objects` (M,)."""
    places = uncertain_points(
        logits, points.count, points.oversample, points.importance, generator, target.counted
    )  # (M, P, 2)
    wanted = target.masks[objects][:, None].to(logits.dtype)  # (M, 1, H, W)
    wanted = sample(wanted, places)[:, 0]  # (M, P)
    seen = sample(logits[:, None], places)[:, 0]  # (M, P)
    weights = point_weights(target, places, seen)  # (M, P)
    return dice_loss(seen, wanted, weights), cross_entropy_loss(seen, wanted, weights)


def dice_loss(logits: Tensor, wanted: Tensor, weights: Tensor) -> Tensor:
    """1 - (2 sum(p t) + 1) / (sum p + sum t + 1) for each mask, (M,); arguments (M, P)."""
    shares = logits.sigmoid()
    both = (shares * wanted * weights).sum(-1)
    either = ((shares + wanted) * weights).sum(-1)
    return 1 - (2 * both + 1) / (either + 1)


def cross_entropy_loss(logits: Tensor, wanted: Tensor, weights: Tensor) -> Tensor:
    """The mean binary cross-entropy over the points of each mask, (M,); arguments (M, P)."""
    each = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")  # (M, P)
    return (each * weights).sum(-1) / weights.sum(-1).clamp_min(1)


def point_weights(target: Target, places: Tensor, like: Tensor) -> Tensor:
    """How much each of `places` (M, P, 2) counts in the losses of masks: (M, P), type of `like`."""
    if target.counted is None:
        return like.new_ones(places.shape[:2])
    counted = target.counted.to(like.dtype).expand(len(places), 1, -1, -1)  # (M, 1, H, W)
    return sample(counted, places)[:, 0]


def _full(x: Tensor) -> Tensor:
    """Out of half precision: sums over thousands of points need more digits."""
    return x if x.dtype == torch.float64 else x.float()
