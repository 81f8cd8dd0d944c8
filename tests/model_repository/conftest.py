"""Models as the Python backend imports them, ready to execute, and what they report."""

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import openvino
import pytest
import triton_python_backend_utils as pb_utils
from onnx import helper, save
from onnx.helper import make_tensor_value_info
from PIL import Image
from step_requests import model_arguments

from pem_server.checkout import MODEL_REPOSITORY

Load = Callable[..., ModuleType]


@pytest.fixture(autouse=True)
def _forget_what_models_did(monkeypatch) -> None:
    """Pillow's own limit, set for the process; logs; and what was reported to Prometheus."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
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


@pytest.fixture
def save_graph(tmp_path) -> Callable[..., Path]:
    """Write an ONNX graph of these nodes to a file."""

    def save_nodes(nodes, inputs, outputs, constants=(), **metadata: str) -> Path:
        tensors = [[make_tensor_value_info(*each) for each in side] for side in (inputs, outputs)]
        graph = helper.make_graph(nodes, "test", *tensors, constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        helper.set_model_props(model, metadata)
        save(model, tmp_path / "model.onnx")
        return tmp_path / "model.onnx"

    return save_nodes


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
    registry = pb_utils.MetricFamily.registry
    return lambda name, **labels: registry[name][tuple(sorted(labels.items()))]


@pytest.fixture
def outcomes() -> Callable[[str], dict[str, float]]:
    """The images of a step by outcome, those that occurred."""

    def read(step: str) -> dict[str, float]:
        counters = pb_utils.MetricFamily.registry["pem_images_total"].items()
        totals = {(dict(key)["step"], dict(key)["outcome"]): one.total for key, one in counters}
        return {outcome: total for (of, outcome), total in totals.items() if of == step and total}

    return read
