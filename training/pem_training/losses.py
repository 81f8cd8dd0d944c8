"""The losses of the model card: `loss_ce`, `loss_dice`, `loss_mask`, on every output.

They are Mask2Former's, and `pem_losses` is what DETR calls `SetCriterion`: each target is matched
with one query, the query learns the target's class and mask, all others learn "no object". The
final output's losses carry these names; those of the auxiliary outputs, each matched anew, end in
`_0`, `_1`, ...

B batch, Q queries, K classes, N targets of an image, M matched pairs, P points, H and W the size of
the image.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from pem_training.distributed import all_reduce_mean
from pem_training.matcher import hungarian_match
from pem_training.point_sampling import point_sample, random_points, uncertain_points
from pemseg import Prediction

WEIGHTS = {"loss_ce": 2.0, "loss_dice": 5.0, "loss_mask": 5.0}
NO_OBJECT_WEIGHT = 0.1  # in loss_ce; most queries have no target and would dominate


@dataclass(frozen=True)
class Target:
    """The classes of a labelled image, each with one mask: `labels` (N,) int64, 0-based class ids,
    `masks` (N, H, W) bool.

    `valid` (H, W) bool: the pixels that enter the mask losses; None: all of them.
    """

    labels: Tensor
    masks: Tensor
    valid: Tensor | None = None


@dataclass(frozen=True)
class Points:
    """How many points of a mask the losses sample, and how: the original's numbers."""

    count: int = 12_544
    oversample: float = 3.0
    importance: float = 0.75


def make_target(label_map: Tensor, *, skip_unlabelled: bool = False) -> Target:
    """The target of `label_map` (H, W) uint8: 0 not labelled, else class id + 1.

    Pixels without a label belong to no mask. As in the original code they still count: there,
    every mask is to be empty. With `skip_unlabelled` they enter no mask loss at all.
    """
    present = label_map.unique()
    present = present[present > 0]
    masks = label_map == present[:, None, None]
    return Target(present.long() - 1, masks, label_map > 0 if skip_unlabelled else None)


def make_targets(label_maps: Tensor, *, skip_unlabelled: bool = False) -> list[Target]:
    """The targets of a batch (B, H, W)."""
    return [make_target(m, skip_unlabelled=skip_unlabelled) for m in torch.unbind(label_maps)]


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
    total = sum(len(target.labels) for target in targets)
    batch, queries = prediction.logits.shape[:2]
    matched = sum(min(len(target.labels), queries) for target in targets)
    counts = prediction.logits.new_tensor(
        (total, matched + NO_OBJECT_WEIGHT * (batch * queries - matched)), dtype=torch.float64
    )
    # Means over the batches of all processes: with equal weights everywhere, the averaged gradient
    # is that of one process with the whole batch.
    num_masks, class_weight = all_reduce_mean(counts).tolist()
    losses = {}
    outputs = {"": prediction} | {f"_{i}": output for i, output in enumerate(prediction.earlier)}
    for suffix, output in outputs.items():
        ce, dice, mask = loss_sums(output, targets, generators, points)
        losses[f"loss_ce{suffix}"] = ce / class_weight
        losses[f"loss_dice{suffix}"] = dice / max(num_masks, 1)
        losses[f"loss_mask{suffix}"] = mask / max(num_masks, 1)
    return losses


def total_loss(losses: Mapping[str, Tensor]) -> Tensor:
    """The weighted sum that is minimised; auxiliary outputs weigh as much as the final one."""
    name_of = {name: "_".join(name.split("_")[:2]) for name in losses}
    return torch.stack([WEIGHTS[name_of[name]] * loss for name, loss in losses.items()]).sum()


def loss_sums(
    output: Prediction,
    targets: Sequence[Target],
    generators: Sequence[torch.Generator],
    points: Points,
) -> tuple[Tensor, Tensor, Tensor]:
    """The sums of loss_ce over queries, and of loss_dice and loss_mask over matched pairs."""
    logits = _to_float32(output.logits)  # (B, Q, K + 1)
    masks = _to_float32(output.masks)  # (B, Q, H/4, W/4)
    no_object = logits.shape[2] - 1
    target_labels = torch.full(logits.shape[:2], no_object, device=logits.device)  # (B, Q)
    dice_sum = mask_sum = masks.new_zeros(())
    images = zip(logits, masks, target_labels, targets, generators, strict=True)
    for image_logits, image_masks, image_labels, target, generator in images:
        queries, matches = match_image(image_logits, image_masks, target, generator, points)
        image_labels[queries] = target.labels[matches]
        dice, mask = mask_losses(image_masks[queries], target, matches, generator, points)
        dice_sum, mask_sum = dice_sum + dice.sum(), mask_sum + mask.sum()
    weight = logits.new_ones(no_object + 1)
    weight[no_object] = NO_OBJECT_WEIGHT
    ce_sum = F.cross_entropy(logits.flatten(0, 1), target_labels.flatten(), weight, reduction="sum")
    return ce_sum, dice_sum, mask_sum


def match_image(
    logits: Tensor, masks: Tensor, target: Target, generator: torch.Generator, points: Points
) -> tuple[Tensor, Tensor]:
    """Queries and the targets they are matched with; `logits` (Q, K + 1), `masks` (Q, H/4, W/4).

    All masks are compared at one set of uniform points.
    """
    coords = random_points(1, points.count, generator)  # (1, P, 2)
    mask_logits = point_sample(masks.detach()[None], coords)[0]  # (Q, P)
    target_masks = point_sample(target.masks[None].to(masks.dtype), coords)[0]  # (N, P)
    weights = point_weights(target, coords, mask_logits)[0]  # (P,)
    return hungarian_match(logits.detach(), mask_logits, target.labels, target_masks, weights)


def mask_losses(
    logits: Tensor, target: Target, matches: Tensor, generator: torch.Generator, points: Points
) -> tuple[Tensor, Tensor]:
    """loss_dice and loss_mask of each pair, both (M,): `logits` (M, H/4, W/4), `matches` (M,)."""
    coords = uncertain_points(
        logits, points.count, points.oversample, points.importance, generator, target.valid
    )  # (M, P, 2)
    target_masks = target.masks[matches][:, None].to(logits.dtype)  # (M, 1, H, W)
    truth = point_sample(target_masks, coords)[:, 0]  # (M, P)
    logits = point_sample(logits[:, None], coords)[:, 0]  # (M, P)
    weights = point_weights(target, coords, logits)  # (M, P)
    return dice_loss(logits, truth, weights), cross_entropy_loss(logits, truth, weights)


def dice_loss(logits: Tensor, truth: Tensor, weights: Tensor) -> Tensor:
    """1 - (2 sum(p t) + 1) / (sum p + sum t + 1) for each mask, (M,); arguments (M, P)."""
    p = logits.sigmoid()
    intersection = (p * truth * weights).sum(-1)
    sizes = ((p + truth) * weights).sum(-1)
    return 1 - (2 * intersection + 1) / (sizes + 1)


def cross_entropy_loss(logits: Tensor, truth: Tensor, weights: Tensor) -> Tensor:
    """The mean binary cross-entropy over the points of each mask, (M,); arguments (M, P)."""
    losses = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")  # (M, P)
    return (losses * weights).sum(-1) / weights.sum(-1).clamp_min(1)


def point_weights(target: Target, coords: Tensor, like: Tensor) -> Tensor:
    """The weight of each of `coords` (M, P, 2) in the mask losses: (M, P), type of `like`."""
    if target.valid is None:
        return like.new_ones(coords.shape[:2])
    valid = target.valid.to(like.dtype).expand(len(coords), 1, -1, -1)  # (M, 1, H, W)
    return point_sample(valid, coords)[:, 0]


def _to_float32(x: Tensor) -> Tensor:
    """Sums over thousands of points need more digits than half precision has."""
    return x if x.dtype == torch.float64 else x.float()
