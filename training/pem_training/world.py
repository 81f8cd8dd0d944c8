"""The processes that train together (torchrun starts them), and what they tell each other.

Everything here does the obvious with one process.
"""

import os
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn

PATIENCE = timedelta(hours=3)  # the others wait while the first one checks the data


@dataclass(frozen=True)
class World:
    """This process among all: `rank` 0..size - 1 over all machines, `local_rank` on this one."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def is_first(self) -> bool:
        """Only the first process writes and talks."""
        return self.rank == 0


def own_world() -> World:
    """What torchrun says about this process; without it, one process is all there is."""
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    if not all(name in os.environ for name in names):
        return World()
    return World(*(int(os.environ[name]) for name in names))


def join_world(device: str) -> World:
    """Meet the other processes, if there are any; `device` is "cpu" or "cuda"."""
    world = own_world()
    if world.size > 1:
        if device == "cuda":
            torch.cuda.set_device(world.local_rank)
        dist.init_process_group("nccl" if device == "cuda" else "gloo", timeout=PATIENCE)
    return world


def leave_world() -> None:
    """Say goodbye to the other processes."""
    if dist.is_initialized():
        dist.destroy_process_group()


def wait_for_all() -> None:
    """Return once every process has come this far."""
    if dist.is_initialized():
        dist.barrier()


def world_sum(value: Tensor) -> Tensor:
    """The sum of every process's `value`."""
    if dist.is_initialized():
        value = value.clone()
        dist.all_reduce(value)
    return value


def world_mean(value: Tensor) -> Tensor:
    """The mean of every process's `value`."""
    return world_sum(value) / (dist.get_world_size() if dist.is_initialized() else 1)


def in_any_process(flag: bool, device: torch.device) -> bool:
    """Whether `flag` is true in any process: all of them get the same answer."""
    return bool(world_sum(torch.tensor(int(flag), device=device)) > 0)


def share_buffers(network: nn.Module) -> None:
    """Give every process the first one's batch norm statistics, which each gathers by itself."""
    if dist.is_initialized():
        for buffer in network.buffers():
            dist.broadcast(buffer, src=0)
