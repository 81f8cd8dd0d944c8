"""Two ways from the network's output to one class for each pixel of an image.

`served`: the index map, as the server computes it, at the server's size. `semantic`: the semantic
inference of the original code, at the original's size. Both return label maps as a data set holds
them, class id + 1. K classes, H and W the size of the image, S the side of the network's square.
"""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from pemexport.contract import IMAGE_SIZE
from pemexport.repository_steps import fit, read_back
from pemexport.segmentation_scores import Labels
from pemseg import Pem
from pemseg.inference import card_outputs, semantic_map
from pemseg.pem import PIXEL_MEAN, STRIDE

SHORT_SIDE, LONGEST = 512, 2048  # the original's test size for ADE20K
CLASSES_AT_ONCE = 10  # upsampled together: what bounds the memory for a large image


def served_labels(network: Pem, path: Path, side: int = IMAGE_SIZE) -> Labels:
    """The class map of the index map, (H, W), with the server's own steps around the network.

    It is the server's answer at threshold 0, which hides nothing: every score is greater.
    """
    square, geometry = fit(path, side)
    batch = _device_batch(network, square)
    with torch.inference_mode():
        class_ids, _, masks = card_outputs(network(batch), (side, side))
    index_map = masks[0].to(torch.uint8).cpu().numpy()  # (S, S)
    return read_back(class_ids[0].int().cpu().numpy(), index_map, geometry)


def semantic_labels(network: Pem, image: Image.Image, short_side: int = SHORT_SIDE) -> Labels:
    """The most probable class at each pixel, (H, W), all queries of a class added up.

    The image is scaled to `short_side` and padded to multiples of 32; the maps are upsampled to its
    own size before the argmax.
    """
    scale = min(short_side / min(image.size), LONGEST / max(image.size))
    width, height = (max(1, int(length * scale + 0.5)) for length in image.size)
    scaled = image.resize((width, height), Image.Resampling.BILINEAR)
    padded = _pad(_device_batch(network, np.asarray(scaled)).float())
    with torch.inference_mode():
        maps = semantic_map(network(padded), (padded.shape[2], padded.shape[3]))
        best = upsampled_argmax(maps[:, :, :height, :width], (image.height, image.width))
    return (best + 1).to(torch.uint8).cpu().numpy()


def upsampled_argmax(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """The class whose map in (1, K, h, w), upsampled bilinearly, is greatest: `size` int64.

    A few classes at a time, since all of them at the size of a large image are gigabytes.
    """
    highest = maps.new_full(size, -torch.inf)
    best = torch.zeros(size, dtype=torch.int64, device=maps.device)
    for first in range(0, maps.shape[1], CLASSES_AT_ONCE):
        part = maps[:, first : first + CLASSES_AT_ONCE]
        part = F.interpolate(part, size=size, mode="bilinear", align_corners=False)[0]
        value, index = part.max(dim=0)
        higher = value > highest
        best = torch.where(higher, index + first, best)
        highest = torch.where(higher, value, highest)
    return best


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
