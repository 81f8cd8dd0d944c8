"""Checkpoints on disk: written whole or not at all, whenever the process may be killed."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from pem_training.settings import SettingsError


def write_checkpoint(path: Path, content: Mapping[str, Any]) -> None:
    """Replace the file at `path`: until the new one is complete, the old one stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.draft")
    with draft.open("wb") as file:
        torch.save(content, file)
        file.flush()
        os.fsync(file.fileno())  # on the disk before it takes the old one's name
    os.replace(draft, path)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What `write_checkpoint` wrote, on the CPU. SettingsError if it cannot continue a run."""
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        _ = content["training"]["step"]
    except Exception as error:  # the unpickler stumbles over foreign bytes in any way it likes
        raise SettingsError(
            f"{path} must be a checkpoint of a training run, but cannot be continued "
            f"({type(error).__name__}); choose another --output, or give it to --weights"
        ) from error
    return content
