"""TensorRT for tests: a fake, and the type stubs of the real one; a graph to build."""

import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import onnx
import pytest
from onnx import TensorProto, helper
from onnx_graphs import model_of, node

import pemtrt
from pemtrt import gpu_info
from pemtrt.engine_build import BuildPaths
from pemtrt.gpu_info import Gpu, Machine

Graph = Callable[..., onnx.ModelProto]

CONFIG = """
platform: "tensorrt_plan"
max_batch_size: 8
input [ { name: "image" data_type: TYPE_UINT8 dims: [ 2 ] } ]
output [ { name: "masks" data_type: TYPE_UINT8 dims: [ 2 ] } ]
"""


@pytest.fixture(autouse=True)
def no_tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorRT, and the module that imports it, are imported anew in each test."""
    for name in ("tensorrt", "fake_tensorrt", "pemtrt.tensorrt_build"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))  # so that it is put back
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(pemtrt, "tensorrt_build", raising=False)


@pytest.fixture
def tensorrt(no_tensorrt: None, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A fresh fake in TensorRT's place."""
    fake = importlib.import_module("fake_tensorrt")
    monkeypatch.setitem(sys.modules, "tensorrt", fake)
    return fake


@pytest.fixture
def t4() -> Machine:
    """A machine with one T4 and the TensorRT of a serving image."""
    return Machine((Gpu("Tesla T4", "7.5"),), "580.95.05", "10.16.1.11")


@pytest.fixture(scope="session")
def small_graph() -> Graph:
    """Make a graph with uint8 in and out, one product between, with weights of `kind`."""

    def make(kind: int = TensorProto.FLOAT) -> onnx.ModelProto:
        weight = helper.make_tensor("weight", kind, [2, 2], [1.0, 0.0, 0.0, 1.0])
        nodes = [
            node("x = Cast image", to=kind),
            node("y = MatMul x weight", "product"),
            node("z = Cast y", to=TensorProto.FLOAT),
            node("masks = Cast z", to=TensorProto.UINT8),
        ]
        end = (TensorProto.UINT8, ["batch", 2])
        model = model_of(nodes, {"image": end}, {"masks": end}, {"weight": weight}, opset=17)
        model.metadata_props.add(key="class_names", value=json.dumps(["wall", "sky"]))
        return model

    return make


@pytest.fixture
def places(small_graph: Graph, tmp_path: Path) -> BuildPaths:
    """A folder with such a graph and its configuration, nothing built yet."""
    onnx.save(small_graph(), tmp_path / "model.onnx")
    (tmp_path / "t4.pbtxt").write_text(CONFIG)
    return BuildPaths(
        graph=tmp_path / "model.onnx",
        target=tmp_path / "1" / "model.plan",
        config=tmp_path / "t4.pbtxt",
        timing_caches=tmp_path / "caches",
        report=tmp_path / "report",
        backend=tmp_path / "no-server-here",
    )


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch, tensorrt: ModuleType) -> Callable[[Machine], None]:
    """Pretend to be on a machine, and that TensorRT's library is loaded."""

    def pretend(machine: Machine) -> None:
        monkeypatch.setattr(gpu_info, "visible_gpus", lambda: machine.gpus)
        monkeypatch.setattr(gpu_info, "driver_version", lambda: machine.driver)
        monkeypatch.setattr(gpu_info, "loaded_library", lambda: Path("libnvinfer.so.10"))
        monkeypatch.setattr(gpu_info, "library_version", lambda library: machine.tensorrt)

    return pretend
