"""TensorRT for tests: its stand-in, and the type stubs of the real one."""

import ast
import importlib
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

import pemengine
from pemengine.machine import Gpu, Machine

VERSIONS = ["10.16.1", "11.4.0"]


@pytest.fixture
def tensorrt(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The stand-in, fresh, in TensorRT's place; what imports TensorRT is imported anew, too."""
    monkeypatch.delitem(sys.modules, "stand_in_tensorrt", raising=False)
    stand_in = importlib.import_module("stand_in_tensorrt")
    monkeypatch.setitem(sys.modules, "tensorrt", stand_in)
    monkeypatch.setitem(sys.modules, "pemengine.tensorrt_build", None)  # so that it is put back
    monkeypatch.delitem(sys.modules, "pemengine.tensorrt_build")
    monkeypatch.delattr(pemengine, "tensorrt_build", raising=False)
    return stand_in


@pytest.fixture(params=VERSIONS)
def stub(request: pytest.FixtureRequest, root: Path) -> str:
    """The type stub of one TensorRT version, such that Python and mypy can read it."""
    path = root.parent / "shared" / "tensorrt-api" / f"tensorrt-{request.param}.pyi"
    if not path.is_file():
        pytest.skip(
            f"needs TensorRT's type stubs, and {path.name} is not in ../shared/tensorrt-api"
        )
    return readable(path.read_text())


def readable(stub: str) -> str:
    """Mend what was read off the bindings and is no Python.

    Parameters named `in`, or without a default after one with; and a module variable `bool`, which
    would hide the type of every function's answer. None of the mended functions is used here.
    """
    lines = re.sub(r"^bool: DataType$", "", stub, flags=re.MULTILINE).split("\n")
    while (wrong := line_that_is_no_python("\n".join(lines))) is not None:
        mended = re.sub(r"\(.*\) ->", "(self, *_: typing.Any, **__: typing.Any) ->", lines[wrong])
        assert mended != lines[wrong], mended
        lines[wrong] = mended
    return "\n".join(lines)


def line_that_is_no_python(text: str) -> int | None:
    """Its index; None when all is well."""
    try:
        ast.parse(text)
    except SyntaxError as error:
        return (error.lineno or 1) - 1
    return None


@pytest.fixture
def t4() -> Machine:
    """A machine with one T4 and the TensorRT of a serving image."""
    return Machine((Gpu("Tesla T4", "7.5"),), "580.95.05", "10.16.1.11")
