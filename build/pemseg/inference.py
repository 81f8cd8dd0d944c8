"""From class and mask logits to segmentations: the two inference modes of mask classification.

B batch, Q queries, K classes, H and W the size of the image.
"""

from torch import Tensor
from torch.nn import functional as F

from .decoder import Prediction


def probabilities(prediction: Prediction) -> Tensor:
    """Class probabilities (B, Q, K): "no object" is part of the softmax, not of the result."""
    return prediction.logits.softmax(dim=-1)[..., :-1]


def card_outputs(prediction: Prediction, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """The model card's outputs: class_ids (B, Q) int64, scores (B, Q), masks (B, H, W) int64.

    A pixel belongs to the query with the highest score times mask probability, which is
    upsampled bilinearly to `size` first.
    """
    scores, class_ids = probabilities(prediction).max(dim=-1)
    weighted = prediction.masks.sigmoid() * scores[:, :, None, None]  # (B, Q, H/4, W/4)
    weighted = F.interpolate(weighted, size=size, mode="bilinear", align_corners=False)
    return class_ids, scores, weighted.argmax(dim=1)


def semantic_map(prediction: Prediction, size: tuple[int, int]) -> Tensor:
    """The official semantic inference: a score for each class and pixel, (B, K, H, W).

    Here the mask logits are upsampled, before the sigmoid; queries of a class are summed.
    """
    masks = F.interpolate(prediction.masks, size=size, mode="bilinear", align_corners=False)
    summed = probabilities(prediction).transpose(1, 2) @ masks.sigmoid().flatten(2)  # (B, K, H*W)
    return summed.unflatten(-1, size)  # (B, K, H, W)
