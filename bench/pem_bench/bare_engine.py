"""The served network step's own engine in a loop in this process, without any server."""

import importlib
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from .forms import Network
from .systems import network_parameters


@dataclass(frozen=True)
class Looped:
    """So many images in so many seconds, with this much processor time."""

    images: int
    seconds: float
    cpu_seconds: float

    @property
    def images_per_second(self) -> float:
        return self.images / self.seconds


def open_engine(repository: Path) -> Network:
    """What pem_network runs, with the settings of its configuration."""
    folder = repository / "pem_network" / "1"
    # The version folder is a package to Triton only; here it gets a name that can be imported.
    package = ModuleType("served_network")
    package.__path__ = [str(folder)]
    sys.modules[package.__name__] = package
    module = importlib.import_module(f"{package.__name__}.openvino_network")
    settings = network_parameters(repository)
    engine: Network = module.Network(
        folder / "model.onnx", int(settings["threads"]), settings["precision"]
    )
    return engine


def loop(engine: Network, images: NDArray[np.uint8], seconds: float) -> Looped:
    """Call the engine with the batch (N, 640, 640, 3) for `seconds`, after one call uncounted."""
    engine(images)
    count, cpu, start = 0, time.process_time(), time.perf_counter()
    while time.perf_counter() - start < seconds:
        engine(images)
        count += len(images)
    return Looped(count, time.perf_counter() - start, time.process_time() - cpu)
