"""Where TensorRT's Python bindings come from, and what is said when there are none."""

import sys
from types import ModuleType

import pytest

from pemtrt import import_tensorrt
from pemtrt.errors import EngineError


def test_without_tensorrt_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("tensorrt", "tensorrt_bindings"):
        monkeypatch.setitem(sys.modules, name, None)

    with pytest.raises(EngineError, match=r"Python bindings.*pip install --no-deps tensorrt-cu13"):
        import_tensorrt.load_tensorrt()


def test_the_bindings_alone_are_tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    bindings = ModuleType("tensorrt_bindings")
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setitem(sys.modules, "tensorrt_bindings", bindings)

    assert import_tensorrt.load_tensorrt() is bindings
    assert sys.modules["tensorrt"] is bindings
