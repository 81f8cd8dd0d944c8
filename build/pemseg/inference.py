"""From class and mask logits to what people look at: the two readings of a mask classification.

B batch, Q queries, K classes, H and W the size of the image.
"""

from torch import Tensor
from torch.nn import functional as F

from .decoder import Prediction


def probabilities(prediction: Prediction) -> Tensor:
    """Class probabilities (B, Q, K): "no object" is part of the softmax, not of the result."""
    return prediction.logits.softmax(dim=-1)[..., :-1]


def card_outputs(prediction: Prediction, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """The model card's reading: class_ids (B, Q) int64, scores (B, Q), masks (B, H, W) int64.

    A pixel belongs to the query with the highest score times mask probability, the probability
    enlarged bilinearly to `size`.
    """
    scores, class_ids = probabilities(prediction).max(dim=-1)
    shares = prediction.masks.sigmoid() * scores[:, :, None, None]  # (B, Q, H/4, W/4)
    shares = F.interpolate(shares, size=size, mode="bilinear", align_corners=False)
    return class_ids, scores, shares.argmax(dim=1)


def semantic_map(prediction: Prediction, size: tuple[int, int]) -> Tensor:
    """The official semantic inference: a share for each class and pixel, (B, K, H, W).

    Here the mask logits are enlarged, before the sigmoid; all queries of a class add up.
    """
    masks = F.interpolate(prediction.masks, size=size, mode="bilinear", align_corners=False)
    shares = probabilities(prediction).transpose(1, 2) @ masks.sigmoid().flatten(2)  # (B, K, H*W)
    return shares.unflatten(-1, size)  # (B, K, H, W)
