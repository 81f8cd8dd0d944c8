"""A model repository whose network is a stand-in with a fixed cost, for tests of load and fleets.

All else is the real thing: the other steps, the ensemble, the tensors, batching and queue limits.

    with stand_in_repository(Path("model_repository"), Cost(20, 5)) as repository:
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

STEP = Path(__file__).with_name("stand_in_model.py")  # runs in the server, not here
COUNTING = "waiting_images.py"  # which pem_preprocess relies on, whatever the network is
# What a model.onnx once said of docs/street.jpg, kept so that loads stay comparable: ten
# detections; class_ids (100,), scores (100,), masks (640, 640).
ANSWER = Path(__file__).with_name("stand_in_answer.npz")


class Cost(NamedTuple):
    """A batch of N images takes fixed_ms + N * per_image_ms, in milliseconds."""

    fixed_ms: float
    per_image_ms: float

    def __str__(self) -> str:
        return f"{self.fixed_ms:g} ms a batch and {self.per_image_ms:g} ms an image"

    def images_per_second(self, batch: int) -> float:
        """What the step answers at most, in batches of this size."""
        return batch * 1000 / (self.fixed_ms + batch * self.per_image_ms)


def parse_cost(text: str) -> Cost:
    """The cost written FIXED:PER_IMAGE in milliseconds, as in 20:5; ValueError with a sentence."""
    try:
        cost = Cost(*map(float, text.split(":")))
    except (TypeError, ValueError):
        cost = Cost(math.nan, math.nan)
    if not (min(cost) >= 0 and 0 < sum(cost) < math.inf):  # not a number fails this, too
        raise ValueError(
            f"the stand-in's cost is FIXED:PER_IMAGE in milliseconds, such as 20:5, not {text!r}"
        )
    return cost


@contextmanager
def stand_in_repository(repository: Path, cost: Cost) -> Iterator[Path]:
    """A temporary copy of `repository` with the stand-in; it goes away with the block."""
    with tempfile.TemporaryDirectory(prefix="pem-stand-in-") as folder:
        copy = Path(folder) / repository.resolve().name
        lay_out_stand_in(repository, copy, cost)
        yield copy


def lay_out_stand_in(repository: Path, folder: Path, cost: Cost) -> None:
    """Write into `folder`, which must not exist, a copy of `repository` with the stand-in.

    The weights need not be there. FileNotFoundError where `repository` is not ours.
    """
    shutil.copytree(repository, folder, ignore=shutil.ignore_patterns("__pycache__", "*.onnx"))
    network = folder / NETWORK
    shutil.rmtree(network / "configs", ignore_errors=True)  # of other backends
    shutil.rmtree(network / "1")
    (network / "1").mkdir()
    shutil.copy(STEP, network / "1" / "model.py")
    shutil.copy(repository / NETWORK / "1" / COUNTING, network / "1" / COUNTING)
    shutil.copy(ANSWER, network / "1" / "answer.npz")
    with (network / "config.pbtxt").open("a") as config:
        config.write("\ndynamic_batching { }\n")  # as on a T4, where a batch pays
        for key, value in cost._asdict().items():
            config.write(f'\nparameters {{ key: "{key}" value {{ string_value: "{value}" }} }}\n')
