"""Models as the Python backend imports them, ready to execute, and what goes in and comes out."""

import importlib
import io
import json
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np
import openvino
import pytest
import triton_python_backend_utils as pb_utils
from google.protobuf import json_format
from PIL import Image

from pem_server.model_config import read_model_config

Load = Callable[..., ModuleType]


@pytest.fixture(autouse=True)
def _restore_pillow_limit(monkeypatch) -> None:
    """`preprocessing` sets Pillow's own limit for its process, which here is everyone's."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)


@pytest.fixture(autouse=True, scope="session")
def _one_openvino_core() -> Iterator[None]:
    """The step keeps one for its process (cpu_features.py), but each test loads the step anew."""
    core = openvino.Core()
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(openvino, "Core", lambda: core)
        yield


@pytest.fixture(scope="session")
def load_model(root) -> Load:
    """Import a module of a model's version folder, by default `model`, as a new one.

    As the backend does: package "1", with version and model folder at the end of sys.path. Several
    models have a package "1", so nothing of it may stay behind.
    """

    def load(model: str, module: str = "model") -> ModuleType:
        folder = root / "model_repository" / model
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
def model_config(root) -> Callable[[str], dict[str, Any]]:
    """A model's configuration as the backend hands it over, without its defaults."""

    def read(model: str) -> dict[str, Any]:
        config = read_model_config(root / "model_repository" / model)
        return json_format.MessageToDict(config, preserving_proto_field_name=True)

    return read


@pytest.fixture
def start_model(load_model, model_config) -> Callable[[str], Any]:
    """A model of the repository, initialized with its own configuration."""

    def start(name: str) -> Any:
        model = load_model(name).TritonPythonModel()
        model.initialize({"model_config": json.dumps(model_config(name))})
        return model

    return start


@pytest.fixture
def request_of() -> Callable[..., pb_utils.InferenceRequest]:
    """A request of named arrays."""

    def make(cancelled: bool = False, **arrays: np.ndarray) -> pb_utils.InferenceRequest:
        tensors = [pb_utils.Tensor(name, array) for name, array in arrays.items()]
        return pb_utils.InferenceRequest(tensors, cancelled)

    return make


@pytest.fixture(scope="session")
def png() -> Callable[[int, int], bytes]:
    """A red image of width x height, as a file's bytes."""

    def encode(width: int, height: int) -> bytes:
        file = io.BytesIO()
        Image.new("RGB", (width, height), (255, 0, 0)).save(file, "PNG")
        return file.getvalue()

    return encode


@pytest.fixture(scope="session")
def strings() -> Callable[..., np.ndarray]:
    """Byte strings as the backend gives TYPE_STRING: (N, 1)."""
    return lambda *items: np.array([[item] for item in items], dtype=object)


@pytest.fixture(scope="session")
def network_outputs() -> Callable[..., dict[str, np.ndarray]]:
    """Tensors for pem_render: per image one query of class 20 that fills it, with this score."""

    def make(*scores: float) -> dict[str, np.ndarray]:
        count = len(scores)
        every = np.zeros((count, 100), np.float32)
        every[:, 0] = scores
        return {
            "class_ids": np.full((count, 100), 20, np.int32),
            "scores": every,
            "masks": np.zeros((count, 640, 640), np.uint8),
            "geometry": np.array([[30, 40, 480, 640]] * count, np.int32),
        }

    return make


@pytest.fixture(scope="session")
def clock() -> Callable[[int], np.ndarray]:
    """(N, 2): pem_preprocess ran for half a second."""
    return lambda count: np.array([[1.0, 1.5]] * count)


@pytest.fixture(scope="session")
def good_inputs(png, strings, network_outputs, clock) -> dict[str, dict[str, np.ndarray]]:
    """The tensors of a good request of one image, by model."""
    outputs = network_outputs(0.9)
    return {
        "pem_preprocess": {"image": strings(png(40, 30))},
        "pem_postprocess": outputs | {"clock": clock(1)},
        "pem_render": outputs,
    }


@pytest.fixture
def arrays_of() -> Callable[[pb_utils.InferenceResponse], dict[str, np.ndarray]]:
    """The outputs of an answer that must not be an error."""

    def read(response: pb_utils.InferenceResponse) -> dict[str, np.ndarray]:
        assert not response.has_error(), response.error().message()
        return {tensor.name(): tensor.as_numpy() for tensor in response.output_tensors()}

    return read


@pytest.fixture(autouse=True)
def series() -> Iterator[Callable[..., pb_utils.Series]]:
    """What the models of one test reported to Prometheus: a series by its name and labels."""
    registry = pb_utils.MetricFamily.registry
    registry.clear()

    def read(name: str, **labels: str) -> pb_utils.Series:
        return registry[name][tuple(sorted(labels.items()))]

    yield read
    registry.clear()


@pytest.fixture
def outcomes(series) -> Callable[[str], dict[str, float]]:
    """The images of a step by outcome, those that occurred."""

    def read(step: str) -> dict[str, float]:
        return {
            dict(labels)["outcome"]: counter.total
            for labels, counter in pb_utils.MetricFamily.registry["pem_images_total"].items()
            if dict(labels)["step"] == step and counter.total
        }

    return read


@pytest.fixture
def logged_errors() -> Iterator[list[str]]:
    """What the models log as errors during one test."""
    pb_utils.Logger.errors.clear()
    yield pb_utils.Logger.errors
    pb_utils.Logger.errors.clear()


@pytest.fixture
def logged_warnings() -> Iterator[list[str]]:
    """What the models log as warnings during one test."""
    pb_utils.Logger.warnings.clear()
    yield pb_utils.Logger.warnings
    pb_utils.Logger.warnings.clear()
