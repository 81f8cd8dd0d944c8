"""How many digits the network computes with while it learns; its losses always take float32."""

from contextlib import AbstractContextManager

import torch

PRECISIONS = ("auto", "float32", "bf16", "fp16")


def choose_precision(asked: str, device: torch.device) -> str:
    """What "auto" means on this machine: the half precision its hardware multiplies in, if any."""
    if asked != "auto":
        return asked
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
