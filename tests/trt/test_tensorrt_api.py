"""The fake and the builder against TensorRT's real API, versions 10 and 11."""

import enum
import inspect
import subprocess
import sys
from pathlib import Path
from types import ModuleType

from pemtrt.rtx_parser import load_rtx

MYPY = """
[mypy]
python_version = 3.11
strict = true
warn_unreachable = true
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


def test_the_builder_type_checks_against_the_real_api(
    stub: str, root: Path, tmp_path: Path
) -> None:
    (tmp_path / "stubs").mkdir()
    (tmp_path / "stubs" / "tensorrt.pyi").write_text(stub)
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
