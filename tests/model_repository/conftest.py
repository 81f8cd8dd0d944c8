"""Models as the Python backend imports them, ready to execute, and what they report."""

import importlib
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import openvino
import pytest
import triton_python_backend_utils as pb_utils
from PIL import Image
from step_requests import model_arguments

from pem_server.checkout import MODEL_REPOSITORY

Load = Callable[..., ModuleType]


@pytest.fixture(autouse=True)
def _restore_pillow_limit(monkeypatch) -> None:
    """`preprocessing` sets Pillow's own limit for its process, which here is everyone's."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)


@pytest.fixture(autouse=True)
def _forget_reports() -> None:
    """What the models of one test logged, and reported to Prometheus, is of no other test."""
    for kept in (pb_utils.Logger.errors, pb_utils.Logger.warnings, pb_utils.MetricFamily.registry):
        kept.clear()


@pytest.fixture(autouse=True, scope="session")
def _one_openvino_core() -> Iterator[None]:
    """The step keeps one for its process (cpu_features.py), but each test loads the step anew."""
    core = openvino.Core()
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(openvino, "Core", lambda: core)
        yield


@pytest.fixture(scope="session")
def load_model() -> Load:
    """Import a module of a model's version folder, by default `model`, as a new one.

    As the backend does: package "1", with version and model folder at the end of sys.path. Several
    models have a package "1", so nothing of it may stay behind.
    """

    def load(model: str, module: str = "model") -> ModuleType:
        folder = MODEL_REPOSITORY / model
        paths = [str(folder / "1"), str(folder)]
        _forget_version_packages()
        sys.path.extend(paths)
        try:
            return importlib.import_module(f"1.{module}")
        finally:
            _forget_version_packages()
            del sys.path[-len(paths) :]

    return load


def _forget_version_packages() -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "1"]:
        del sys.modules[name]
    importlib.invalidate_caches()


@pytest.fixture
def start_model(load_model) -> Callable[..., Any]:
    """A model of the repository, initialized with its own configuration or other parameters."""

    def start(name: str, **parameters: str) -> Any:
        model = load_model(name).TritonPythonModel()
        model.initialize(model_arguments(name, **parameters))
        return model

    return start


@pytest.fixture
def series() -> Callable[..., pb_utils.Series]:
    """A series reported to Prometheus, by its name and labels."""
    return lambda name, **labels: pb_utils.MetricFamily.registry[name][
        tuple(sorted(labels.items()))
    ]


@pytest.fixture
def outcomes() -> Callable[[str], dict[str, float]]:
    """The images of a step by outcome, those that occurred."""

    def read(step: str) -> dict[str, float]:
        return {
            dict(labels)["outcome"]: counter.total
            for labels, counter in pb_utils.MetricFamily.registry["pem_images_total"].items()
            if dict(labels)["step"] == step and counter.total
        }

    return read
