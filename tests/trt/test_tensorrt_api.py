"""The fake and the builder against TensorRT's real API, versions 10 and 11."""

import ast
import enum
import inspect
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from pemtrt.rtx_parser import load_rtx

MYPY = """
[mypy]
strict = true
[mypy-tensorrt.*]
ignore_errors = true
[mypy-onnx.*,google.*,tritonclient.*]
ignore_missing_imports = true
"""


def test_the_fake_has_nothing_that_tensorrt_has_not(tensorrt: ModuleType) -> None:
    """By name, against the bindings of TensorRT-RTX; the builder's calls are checked below."""
    rtx = load_rtx()
    fakes = [
        value
        for value in vars(tensorrt).values()
        if inspect.isclass(value) and value.__module__ == tensorrt.__name__
    ]
    fakes = [fake for fake in fakes if fake is not tensorrt.Behaviour]
    assert len(fakes) > 20
    for fake in [*fakes, tensorrt.ILogger.Severity]:
        real = rtx
        for name in fake.__qualname__.split("."):
            real = getattr(real, name)
        names = set(fake.__members__) if issubclass(fake, enum.Enum) else set(vars(fake))
        assert {name for name in names if not name.startswith("_")} <= set(dir(real)), fake


def readable(stub: str) -> str:
    """Repair the parts of the generated stubs that are not Python.

    Parameters named `in`, or without a default after one with; and a module variable `bool`, which
    would hide the type. None of these functions is used here.
    """
    lines = re.sub(r"^bool: DataType$", "", stub, flags=re.MULTILINE).split("\n")
    anything = "(self, *_: typing.Any, **__: typing.Any) ->"
    while True:
        try:
            ast.parse("\n".join(lines))
            return "\n".join(lines)
        except SyntaxError as error:
            wrong = (error.lineno or 1) - 1
            lines[wrong], before = re.sub(r"\(.*\) ->", anything, lines[wrong]), lines[wrong]
            assert lines[wrong] != before


@pytest.mark.parametrize("version", ["10.16.1", "11.4.0"])
def test_the_builder_type_checks_against_the_real_api(
    version: str, root: Path, tmp_path: Path
) -> None:
    stub = root.parent / "shared" / "tensorrt-api" / f"tensorrt-{version}.pyi"
    if not stub.is_file():
        pytest.skip(f"needs TensorRT's type stubs in ../shared, which lacks {stub.name}")
    (tmp_path / "stubs").mkdir()
    (tmp_path / "stubs" / "tensorrt.pyi").write_text(readable(stub.read_text()))
    settings, wrong = tmp_path / "mypy.ini", tmp_path / "wrong.py"
    settings.write_text(MYPY)
    # So that a stub which mypy does not find, or does not believe, does not pass for agreement.
    wrong.write_text("import tensorrt\n\ntensorrt.Builder('no logger').build_it()\n")
    command = [sys.executable, "-m", "mypy", "--config-file", settings]
    checked = subprocess.run(
        [*command, "--cache-dir", tmp_path / "cache", wrong, root / "build" / "pemtrt"],
        env={"MYPYPATH": str(tmp_path / "stubs"), "PATH": ""},
        cwd=root,
        capture_output=True,
        text=True,
    )
    errors = [line for line in checked.stdout.splitlines() if ": error:" in line]
    assert len(errors) == 2, checked.stdout + checked.stderr
    assert all("wrong.py" in line for line in errors), checked.stdout
