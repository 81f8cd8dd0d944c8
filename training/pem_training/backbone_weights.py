"""The STDC backbone's ImageNet weights, in the file its authors publish (STDCNet1446_76.47.tar).

The file holds `{"state_dict": {...}}` with the keys `features.N...` of the backbone beside those of
the classifier, which is not needed.
"""

from pathlib import Path

import torch
from torch import Tensor

from pemseg import CheckpointError, Pem
from pemseg.checkpoint import compare_keys

CLASSIFIER = ("fc.", "bn.", "linear.", "conv_last.")
PREFIX = "backbone."


def load_backbone(network: Pem, path: Path) -> int:
    """Copy the weights in `path` into the network's backbone; returns how many tensors fitted.

    Raises CheckpointError with one sentence, and leaves the network as it was, if the file is no
    such file or does not fit the backbone exactly.
    """
    state = _read_state(path)
    found = {PREFIX + k: value for k, value in state.items() if not k.startswith(CLASSIFIER)}
    others = {k: v for k, v in network.state_dict().items() if not k.startswith(PREFIX)}
    report = compare_keys(network, others | found)
    if not report.fits:
        raise CheckpointError(f"{path} does not fit the backbone: {report}")
    network.load_state_dict(found, strict=False)  # strict above, but for batch counters
    return len(found)


def _read_state(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise CheckpointError(f"the backbone's weights must be a file, but {path} does not exist")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler stumbles over foreign bytes in any way it likes
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path} is not a readable PyTorch checkpoint: {reason}") from None
    state = content.get("state_dict") if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise CheckpointError(
            f"{path} must hold a dictionary whose entry 'state_dict' is the state of an STDC "
            "network trained on ImageNet"
        )
    return state
