"""AdamW, its groups of parameters and its learning rate, as the original PEM is trained."""

import math
from collections.abc import Iterable

import torch
from torch import nn

FINAL_RATE = 1e-6  # where the cosine ends
WITHOUT_DECAY = (nn.BatchNorm2d, nn.LayerNorm, nn.Embedding)


def make_optimiser(
    network: nn.Module, weight_decay: float, backbone_factor: float
) -> torch.optim.AdamW:
    """AdamW over all parameters; `backbone_factor` times the rate for those of `backbone`.

    Norms and embeddings do not decay.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, module in network.named_modules():
        factor = backbone_factor if name.startswith("backbone.") else 1.0
        decay = 0.0 if isinstance(module, WITHOUT_DECAY) else weight_decay
        groups.setdefault((factor, decay), []).extend(module.parameters(recurse=False))
    return torch.optim.AdamW(
        [
            {"params": parameters, "weight_decay": decay, "factor": factor}
            for (factor, decay), parameters in groups.items()
            if parameters
        ],
        fused=True,
    )


def set_learning_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """The rate of the next step; each group takes its own multiple of it."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group["factor"]


def learning_rate(step: int, steps: int, peak: float) -> float:
    """The rate of step 0..steps - 1: half a cosine from `peak` to FINAL_RATE, no warm-up."""
    return FINAL_RATE + (peak - FINAL_RATE) * (1 + math.cos(math.pi * step / steps)) / 2


def average(target: nn.Module, source: nn.Module, keep: float) -> None:
    """Move `target` towards `source`: keep * target + (1 - keep) * source, buffers too."""
    with torch.no_grad():
        for old, new in zip(_values(target), _values(source), strict=True):
            if old.is_floating_point():
                old.lerp_(new, 1 - keep)
            else:
                old.copy_(new)  # batch counters


def _values(network: nn.Module) -> Iterable[torch.Tensor]:
    return network.state_dict().values()
