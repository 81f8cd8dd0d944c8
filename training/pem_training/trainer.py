"""The state of a training run, and the one step that changes it."""

import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grad_norm_

from pem_training.batches import point_generators
from pem_training.checkpoint_file import write_checkpoint
from pem_training.losses import pem_losses, total_loss
from pem_training.optimiser import average, learning_rate, make_optimiser, set_learning_rate
from pem_training.precision import autocast, choose_precision, make_scaler
from pem_training.settings import Settings
from pem_training.targets import targets_of
from pem_training.world import World, share_buffers, world_mean
from pemseg import Pem


class Trainer:
    """Network, optimiser and how far they are. Everything random comes from elsewhere, see
    batches.py, so this is all that a checkpoint has to hold.

    steps_done: 0 at first. best: the highest mIoU of an evaluation so far.
    """

    def __init__(
        self, network: Pem, settings: Settings, device: torch.device, world: World | None = None
    ) -> None:
        world = world or World()
        self.settings, self.device = settings, device
        self.network = network.to(device)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.mean_network = copy.deepcopy(self.network).eval() if settings.ema else None
        self.optimiser = make_optimiser(
            self.network, settings.weight_decay, settings.backbone_factor
        )
        self.precision = choose_precision(settings.precision, device)
        self.scaler = make_scaler(self.precision, device)
        self.parallel: nn.Module = self.network
        if world.size > 1:
            own_device = [device] if device.type == "cuda" else None
            self.parallel = DistributedDataParallel(self.network, device_ids=own_device)
        self.steps_done, self.best = 0, 0.0

    def step(self, images: Tensor, labels: Tensor, numbers: Tensor) -> dict[str, float]:
        """Learn from one batch, see batches.py for its parts; returns the losses and more by name.

        Raises FloatingPointError when the answer or the gradient is no longer a number.
        """
        self.network.train()
        rate = learning_rate(self.steps_done, self.settings.steps, self.settings.lr)
        set_learning_rate(self.optimiser, rate)
        losses = self._losses(images, labels, numbers)
        loss = total_loss(losses)
        self.optimiser.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimiser)
        norm = clip_grad_norm_(self.network.parameters(), self.settings.greatest_norm)
        if not torch.isfinite(norm) and not self.scaler.is_enabled():  # which leaves such steps out
            raise FloatingPointError(f"the gradient must be finite, but its norm is {norm.item()}")
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.steps_done += 1
        self._follow()
        values = {"loss": loss, **losses, "gradient": norm}
        # Each process has its own part of the losses; one transfer from the device for all.
        means = world_mean(torch.stack([value.detach() for value in values.values()])).tolist()
        return dict(zip(values, means, strict=True)) | {"rate": rate}

    def _losses(self, images: Tensor, labels: Tensor, numbers: Tensor) -> dict[str, Tensor]:
        pixels = images.to(self.device, non_blocking=True, memory_format=torch.channels_last)
        marks = labels.to(self.device, non_blocking=True)
        with autocast(self.precision, self.device):
            prediction = self.parallel(pixels)
        targets = targets_of(marks, skip_unlabelled=self.settings.skip_unlabelled)
        generators = point_generators(numbers, self.settings.seed, self.device)
        return pem_losses(prediction, targets, generators, self.settings.loss_points)

    def _follow(self) -> None:
        """Let the mean of the weights follow; faster at first, when they still change a lot."""
        if self.mean_network is not None:
            keep = min(self.settings.ema, (1 + self.steps_done) / (10 + self.steps_done))
            average(self.mean_network, self.network, keep)

    def finished_network(self) -> Pem:
        """What the run has made so far, in evaluation mode; the next step changes it again."""
        network = self.mean_network or self.network
        share_buffers(network)
        return network.eval()

    def save(self, path: Path, identity: dict[str, str]) -> None:
        """Write a checkpoint that `restore` can go on from and `load_network` can load."""
        training = {
            "step": self.steps_done,
            "best": self.best,
            "identity": identity,
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
        }
        if self.mean_network is not None:
            training["network"] = self.network.state_dict()
        finished = self.mean_network or self.network
        write_checkpoint(path, {"model": finished.state_dict(), "training": training})

    def restore(self, content: dict[str, Any]) -> None:
        """Become what the checkpoint's run was when it was written."""
        training = content["training"]
        self.network.load_state_dict(training.get("network", content["model"]))
        if self.mean_network is not None:
            self.mean_network.load_state_dict(content["model"])
        self.optimiser.load_state_dict(training["optimiser"])
        self.scaler.load_state_dict(training["scaler"])
        self.steps_done, self.best = training["step"], training["best"]
