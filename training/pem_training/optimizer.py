"""AdamW with the original PEM's parameter groups and learning rate, and mixed precision."""

import math
from collections.abc import Iterable
from contextlib import AbstractContextManager

import torch
from torch import nn

FINAL_RATE = 1e-6  # where the cosine ends
PRECISIONS = ("auto", "float32", "bf16", "fp16")  # of the network; losses are in float32
WITHOUT_DECAY = (nn.BatchNorm2d, nn.LayerNorm, nn.Embedding)


def make_optimizer(
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


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """The rate of the next step; each group takes its own multiple of it."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["factor"]


def learning_rate(step: int, steps: int, peak: float) -> float:
    """The rate of step 0..steps - 1: half a cosine from `peak` to FINAL_RATE, no warm-up."""
    return FINAL_RATE + (peak - FINAL_RATE) * (1 + math.cos(math.pi * step / steps)) / 2


def update_ema(target: nn.Module, source: nn.Module, keep: float) -> None:
    """Move `target` towards `source`: keep * target + (1 - keep) * source, buffers too."""
    with torch.no_grad():
        for old, new in zip(_values(target), _values(source), strict=True):
            if old.is_floating_point():
                old.lerp_(new, 1 - keep)
            else:
                old.copy_(new)  # batch counters


def _values(network: nn.Module) -> Iterable[torch.Tensor]:
    return network.state_dict().values()


def choose_precision(requested: str, device: torch.device) -> str:
    """What "auto" means on this machine: the half precision its hardware multiplies in, if any."""
    if requested != "auto":
        return requested
    if device.type == "cuda":
        # Cards before Ampere (the T4) only emulate bf16.
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    capabilities = torch.cpu.get_capabilities()
    has_bf16 = capabilities.get("amx_bf16") or capabilities.get("avx512_bf16")
    return "bf16" if has_bf16 else "float32"


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Where the network's forward pass runs."""
    kind = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    return torch.autocast(device.type, dtype=kind, enabled=kind is not None)


def make_scaler(precision: str, device: torch.device) -> torch.amp.GradScaler:
    """Keeps gradients within the range of fp16; does nothing in other precisions."""
    return torch.amp.GradScaler(device.type, enabled=precision == "fp16")
