"""The processes that train together, started by torchrun, and their collective operations.

Without torchrun each function does the obvious for a single process.
"""

import os
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn

TIMEOUT = timedelta(hours=3)  # the others wait while the first one checks the data


@dataclass(frozen=True)
class World:
    """This process among all: `rank` 0..size - 1 over all machines, `local_rank` on this one."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def is_first(self) -> bool:
        """Only the first process writes files and logs."""
        return self.rank == 0


def environment_world() -> World:
    """This process as torchrun's environment variables describe it; alone without them."""
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    if not all(name in os.environ for name in names):
        return World()
    return World(*(int(os.environ[name]) for name in names))


def init_process_group(device: str) -> World:
    """Connect to the other processes, if there are any; `device` is "cpu" or "cuda"."""
    world = environment_world()
    if world.size > 1:
        if device == "cuda":
            torch.cuda.set_device(world.local_rank)
        dist.init_process_group("nccl" if device == "cuda" else "gloo", timeout=TIMEOUT)
    return world


def destroy_process_group() -> None:
    """Disconnect from the other processes."""
    if dist.is_initialized():
        dist.destroy_process_group()


def barrier() -> None:
    """Return once every process has reached this call."""
    if dist.is_initialized():
        dist.barrier()


def all_reduce_sum(value: Tensor) -> Tensor:
    """The sum of every process's `value`."""
    if dist.is_initialized():
        value = value.clone()
        dist.all_reduce(value)
    return value


def all_reduce_mean(value: Tensor) -> Tensor:
    """The mean of every process's `value`."""
    return all_reduce_sum(value) / (dist.get_world_size() if dist.is_initialized() else 1)


def any_process(flag: bool, device: torch.device) -> bool:
    """Whether `flag` is true in any process: all of them get the same answer."""
    return bool(all_reduce_sum(torch.tensor(int(flag), device=device)) > 0)


def broadcast_buffers(network: nn.Module) -> None:
    """Copy the first process's batch norm statistics, which each gathers by itself, to all."""
    if dist.is_initialized():
        for buffer in network.buffers():
            dist.broadcast(buffer, src=0)
