"""Two ways from a network's answer to one class for each pixel of an image.

`served`: the index map of the server, at the server's size. `semantic`: the semantic inference of
the original code, at the original's size. Both answer label maps as they lie in a data set, class
id + 1. K classes, H and W the size of the image.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from pem_training.geometry import fit, scale_back
from pemexport.contract import IMAGE_SIZE
from pemseg import Pem
from pemseg.inference import card_outputs, semantic_map
from pemseg.pem import PIXEL_MEAN, STRIDE

SHORT_SIDE, LONGEST = 512, 2048  # the original's test size for ADE20K
CLASSES_AT_ONCE = 10  # enlarged together: what bounds the memory for a large image

Labels = NDArray[np.uint8]


def served_labels(network: Pem, image: Image.Image, side: int = IMAGE_SIZE) -> Labels:
    """The class map of the index map, (H, W), as the server renders it with threshold 0.

    With threshold 0 the server hides nothing, as every score is greater.
    """
    square, fitted = fit(image, side)
    batch = _device_batch(network, square)
    with torch.inference_mode():
        class_ids, _, masks = card_outputs(network(batch), (side, side))
    values = (class_ids[0] + 1).to(torch.uint8)  # (Q,)
    answer = values[masks[0]].cpu().numpy()  # (S, S)
    return scale_back(answer, side, fitted, (image.height, image.width))


def semantic_labels(network: Pem, image: Image.Image, short_side: int = SHORT_SIDE) -> Labels:
    """The class with the greatest share at each pixel, (H, W), all queries of a class together.

    The image is scaled to `short_side`, padded to multiples of 32; shares are enlarged to its
    own size before the greatest is taken.
    """
    scale = min(short_side / min(image.size), LONGEST / max(image.size))
    width, height = (max(1, int(length * scale + 0.5)) for length in image.size)
    scaled = image.resize((width, height), Image.Resampling.BILINEAR)
    batch = _device_batch(network, np.asarray(scaled)).float()
    padded = _pad(batch)
    with torch.inference_mode():
        shares = semantic_map(network(padded), (padded.shape[2], padded.shape[3]))
        winner = best_class(shares[:, :, :height, :width], (image.height, image.width))
    return (winner + 1).to(torch.uint8).cpu().numpy()


def best_class(shares: Tensor, size: tuple[int, int]) -> Tensor:
    """The class whose share (1, K, h, w), enlarged bilinearly, is greatest: `size` int64.

    A few classes at a time, since all of them at the size of a large image are gigabytes.
    """
    best = shares.new_full(size, -torch.inf)
    winner = torch.zeros(size, dtype=torch.int64, device=shares.device)
    for first in range(0, shares.shape[1], CLASSES_AT_ONCE):
        part = shares[:, first : first + CLASSES_AT_ONCE]
        part = F.interpolate(part, size=size, mode="bilinear", align_corners=False)[0]
        value, index = part.max(dim=0)
        better = value > best
        winner = torch.where(better, index + first, winner)
        best = torch.where(better, value, best)
    return winner


def _pad(image: Tensor) -> Tensor:
    """Add the pixel mean, zero to the network, right and below up to multiples of its stride."""
    height, width = (-(-length // STRIDE) * STRIDE for length in image.shape[2:])
    padded = image.new_tensor(PIXEL_MEAN).view(1, 3, 1, 1).repeat(1, 1, height, width)
    padded[:, :, : image.shape[2], : image.shape[3]] = image
    return padded


def _device_batch(network: Pem, pixels: Labels) -> Tensor:
    """(H, W, 3) to (1, 3, H, W) where the network is."""
    device = next(network.parameters()).device
    return torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None].to(device)
