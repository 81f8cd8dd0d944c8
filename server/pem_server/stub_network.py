"""A model repository whose network is a stub with a fixed cost, for load and fleet tests.

All else is real: the other steps, the ensemble, the tensors, batching and queue limits.

    with stub_repository(Path("model_repository"), Cost(20, 5)) as repository:
        with TritonServer(repository) as server: ...
"""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from pem_server.repository_check import NETWORK

MODEL = Path(__file__).with_name("stub_model.py")  # runs in the server, not here
# What a model.onnx once answered for docs/street.jpg, kept so that load tests stay comparable: ten
# detections; class_ids (100,), scores (100,), masks (640, 640).
ANSWER = Path(__file__).with_name("stub_answer.npz")


class Cost(NamedTuple):
    """A batch of N images takes fixed_ms + N * per_image_ms, in milliseconds."""

    fixed_ms: float
    per_image_ms: float

    def __str__(self) -> str:
        return f"{self.fixed_ms:g} ms a batch and {self.per_image_ms:g} ms an image"


def parse_cost(text: str) -> Cost:
    """The cost written FIXED:PER_IMAGE in milliseconds, as in 20:5; ValueError otherwise."""
    try:
        cost = Cost(*map(float, text.split(":")))
    except (TypeError, ValueError):
        cost = Cost(math.nan, math.nan)
    if not (min(cost) >= 0 and 0 < sum(cost) < math.inf):  # false for NaN, too
        raise ValueError(
            f"the stub's cost must be FIXED:PER_IMAGE in milliseconds, such as 20:5, got {text!r}"
        )
    return cost


@contextmanager
def stub_repository(repository: Path, cost: Cost) -> Iterator[Path]:
    """A temporary copy of `repository` with the stub network, removed after the block."""
    with tempfile.TemporaryDirectory(prefix="pem-stub-") as folder:
        copy = Path(folder) / repository.resolve().name
        write_stub_repository(repository, copy, cost)
        yield copy


def write_stub_repository(repository: Path, folder: Path, cost: Cost) -> None:
    """Write into `folder`, which must not exist, a copy of `repository` with the stub network.

    The weights are not needed. FileNotFoundError where `repository` is not ours.
    """
    shutil.copytree(repository, folder, ignore=shutil.ignore_patterns("__pycache__", "*.onnx"))
    network = folder / NETWORK
    shutil.rmtree(network / "configs", ignore_errors=True)  # of other backends
    shutil.rmtree(network / "1")
    (network / "1").mkdir()
    shutil.copy(MODEL, network / "1" / "model.py")
    shutil.copy(ANSWER, network / "1" / "answer.npz")
    with (network / "config.pbtxt").open("a") as config:
        config.write("\ndynamic_batching { }\n")  # as on a T4, where a batch pays
        for key, value in cost._asdict().items():
            config.write(f'\nparameters {{ key: "{key}" value {{ string_value: "{value}" }} }}\n')
