"""The state of a training run, the one step that changes it, and its checkpoints on disk."""

import copy
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grad_norm_

from pem_training.batches import point_generators
from pem_training.distributed import World, all_reduce_mean, broadcast_buffers
from pem_training.losses import make_targets, pem_losses, total_loss
from pem_training.optimizer import (
    autocast,
    choose_precision,
    learning_rate,
    make_optimizer,
    make_scaler,
    set_learning_rate,
    update_ema,
)
from pem_training.settings import Settings, SettingsError
from pemseg import Pem


class Trainer:
    """Network, optimizer and progress. All random numbers come from batches.py, so this is all that
    a checkpoint has to hold.

    steps_done: 0 at first. best: the highest mIoU of an evaluation so far.
    """

    def __init__(
        self, network: Pem, settings: Settings, device: torch.device, world: World | None = None
    ) -> None:
        world = world or World()
        self.settings, self.device = settings, device
        self.network = network.to(device)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.ema_network = copy.deepcopy(self.network).eval() if settings.ema else None
        self.optimizer = make_optimizer(network, settings.weight_decay, settings.backbone_factor)
        self.precision = choose_precision(settings.precision, device)
        self.scaler = make_scaler(self.precision, device)
        self.parallel: nn.Module = self.network
        if world.size > 1:
            own_device = [device] if device.type == "cuda" else None
            self.parallel = DistributedDataParallel(self.network, device_ids=own_device)
        self.steps_done, self.best = 0, 0.0

    def step(self, images: Tensor, labels: Tensor, numbers: Tensor) -> dict[str, float]:
        """Learn from one batch, see batches.py for its parts; returns the losses and more by name.

        Raises FloatingPointError when the output or the gradient is no longer finite.
        """
        self.network.train()
        rate = learning_rate(self.steps_done, self.settings.steps, self.settings.lr)
        set_learning_rate(self.optimizer, rate)
        losses = self._losses(images, labels, numbers)
        loss = total_loss(losses)
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        norm = clip_grad_norm_(self.network.parameters(), self.settings.max_norm)
        # fp16's scaler skips a step whose gradient is not finite.
        if not torch.isfinite(norm) and not self.scaler.is_enabled():
            raise FloatingPointError(f"the gradient must be finite, but its norm is {norm.item()}")
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.steps_done += 1
        self._update_ema()
        values = {"loss": loss, **losses, "gradient": norm}
        # Each process has its own part of the losses; one transfer from the device for all.
        means = all_reduce_mean(torch.stack([value.detach() for value in values.values()])).tolist()
        return dict(zip(values, means, strict=True)) | {"rate": rate}

    def _losses(self, images: Tensor, labels: Tensor, numbers: Tensor) -> dict[str, Tensor]:
        pixels = images.to(self.device, non_blocking=True, memory_format=torch.channels_last)
        label_maps = labels.to(self.device, non_blocking=True)
        with autocast(self.precision, self.device):
            prediction = self.parallel(pixels)
        targets = make_targets(label_maps, skip_unlabelled=self.settings.skip_unlabelled)
        generators = point_generators(numbers, self.settings.seed, self.device)
        return pem_losses(prediction, targets, generators, self.settings.loss_points)

    def _update_ema(self) -> None:
        """Move the mean of the weights; faster at first, when they still change a lot."""
        if self.ema_network is not None:
            keep = min(self.settings.ema, (1 + self.steps_done) / (10 + self.steps_done))
            update_ema(self.ema_network, self.network, keep)

    def finished_network(self) -> Pem:
        """The network of the run so far, in evaluation mode; the next step changes it again."""
        network = self.ema_network or self.network
        broadcast_buffers(network)
        return network.eval()

    def save(self, path: Path, identity: dict[str, str]) -> None:
        """Write a checkpoint that `restore` can go on from and `load_network` can load."""
        training = {
            "step": self.steps_done,
            "best": self.best,
            "identity": identity,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }
        if self.ema_network is not None:
            training["network"] = self.network.state_dict()
        finished = self.ema_network or self.network
        write_checkpoint(path, {"model": finished.state_dict(), "training": training})

    def restore(self, content: dict[str, Any]) -> None:
        """Take the state of the checkpoint's run."""
        training = content["training"]
        self.network.load_state_dict(training.get("network", content["model"]))
        if self.ema_network is not None:
            self.ema_network.load_state_dict(content["model"])
        self.optimizer.load_state_dict(training["optimizer"])
        self.scaler.load_state_dict(training["scaler"])
        self.steps_done, self.best = training["step"], training["best"]


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
    """What `write_checkpoint` wrote, on the CPU. SettingsError if no run can be resumed from it."""
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        state = content["training"]
        _ = state["step"]
        if "optimiser" in state:  # as 0.1 spelled it
            state["optimizer"] = state.pop("optimiser")
        state["identity"] = _present_names(state["identity"])
    except Exception as error:  # the unpickler raises nearly any type on foreign bytes
        raise SettingsError(
            f"{path} must be a checkpoint of a training run, but cannot be resumed "
            f"({type(error).__name__}); choose another --output, or pass it to --weights"
        ) from error
    return content


def _present_names(identity: Mapping[str, str]) -> dict[str, str]:
    """A run's identity with the names that 0.1 gave, and without the drawn scenes it did not use.

    A run that did use them cannot be resumed: its images are gone.
    """
    renamed = {"pictures": "images", "--colour": "--color"}
    unused = {"--scenes": "0", "--scene-labels": "()"}
    return {renamed.get(k, k): value for k, value in identity.items() if unused.get(k) != value}
