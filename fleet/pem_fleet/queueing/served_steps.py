"""The steps of one server for the simulation: their config.pbtxt, and times.

Batching, queue limits and processes come from the repository itself, so that the simulation
describes the server that runs. Times are measurements or, for the T4, assumptions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pem_server.model_config import read_model_config

PATH = ("pem_preprocess", "pem_network", "pem_postprocess")  # pem_render runs only on request


@dataclass(frozen=True)
class Cost:
    """A batch of N images takes fixed_s + N * per_image_s, in seconds."""

    fixed_s: float
    per_image_s: float

    def seconds(self, images: int) -> float:
        """How long a batch takes."""
        return self.fixed_s + images * self.per_image_s


# Nothing was measured on a T4 yet. The network: the model card's 142 images a second are 7 ms for
# one image; that 1 ms of it is fixed is a guess on the careful side (more would batch better). The
# steps around it: full HD on a 2.6 GHz Xeon, before large JPEGs were decoded at less; careful, too.
T4_COSTS = {
    "pem_preprocess": Cost(0.0, 0.020),
    "pem_network": Cost(0.001, 0.006),
    "pem_postprocess": Cost(0.0, 0.006),
}


@dataclass(frozen=True)
class Step:
    """One model of Triton: how it queues, batches and works. 0 stands for no limit."""

    name: str
    cost: Cost
    processes: int = 1
    max_batch: int = 1
    delay_s: float = 0.0
    queue_limit: int = 0
    timeout_s: float = 0.0

    @property
    def prefetches(self) -> bool:
        """Whether Triton's batcher works ahead of a free process: not where a queue has a policy.

        It then looks at its queue at an arrival that finds a process free, and every half second.
        """
        return not (self.queue_limit or self.timeout_s)

    @property
    def most(self) -> float:
        """Images a second in full batches, the maximum."""
        return self.processes * self.max_batch / self.cost.seconds(self.max_batch)


def read_steps(
    repository: Path, config_name: str | None, costs: Mapping[str, Cost], *, batching: bool = False
) -> tuple[Step, ...]:
    """Read the steps of an image's path; `config_name` picks configs/NAME.pbtxt where it is.

    With `batching` the network batches whatever its configuration says, as the stub network does.
    """
    missing = [name for name in PATH if name not in costs]
    if missing:
        raise ValueError(f"every step needs a cost: none for {', '.join(missing)}")
    return tuple(
        _read(repository / name, config_name, costs[name], batching and name == "pem_network")
        for name in PATH
    )


def with_costs(steps: Sequence[Step], costs: Mapping[str, Cost]) -> tuple[Step, ...]:
    """Return the steps with other times."""
    return tuple(replace(step, cost=costs.get(step.name, step.cost)) for step in steps)


def _read(model: Path, config_name: str | None, cost: Cost, batching: bool) -> Step:
    config = read_model_config(model, config_name)
    batcher = config.dynamic_batching
    queue = batcher.default_queue_policy
    batches = batching or config.HasField("dynamic_batching")
    return Step(
        model.name,
        cost,
        processes=sum(group.count for group in config.instance_group) or 1,
        # Without dynamic batching each request is executed alone.
        max_batch=config.max_batch_size if batches else 1,
        delay_s=batcher.max_queue_delay_microseconds / 1e6,
        queue_limit=queue.max_queue_size,
        timeout_s=queue.default_timeout_microseconds / 1e6,
    )
