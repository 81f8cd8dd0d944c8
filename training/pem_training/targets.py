"""What a network should answer: the classes of a labelled image, each with one mask.

N classes present, H and W the size of the image. Labels are ADE20K's: 0 not labelled, else
class id + 1.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Target:
    """One image: `classes` (N,) int64, 0-based; `masks` (N, H, W) bool.

    `counted` (H, W) bool says which pixels enter the losses of masks; None: all of them.
    """

    classes: Tensor
    masks: Tensor
    counted: Tensor | None = None


def target_of(labels: Tensor, *, skip_unlabelled: bool = False) -> Target:
    """The target of `labels` (H, W) uint8: one binary mask for each class present.

    Pixels without a label belong to no mask. As in the original code they still count: there,
    every mask should be empty. With `skip_unlabelled` they enter no mask's loss at all.
    """
    present = labels.unique()
    present = present[present > 0]
    masks = labels == present[:, None, None]
    return Target(present.long() - 1, masks, labels > 0 if skip_unlabelled else None)


def targets_of(labels: Tensor, *, skip_unlabelled: bool = False) -> list[Target]:
    """The targets of a batch (B, H, W)."""
    return [target_of(one, skip_unlabelled=skip_unlabelled) for one in torch.unbind(labels)]
