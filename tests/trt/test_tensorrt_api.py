"""The fake and the builder against TensorRT's real API, versions 10 and 11."""

import ast
import inspect
import subprocess
import sys
from enum import Enum
from pathlib import Path
from types import ModuleType

import pytest

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
OWN = ["Behaviour"]  # of the fake
BINDING = ["__new__", "__init__", "__len__", "__getitem__"]  # the special methods worth comparing


def classes(body: list[ast.stmt]) -> dict[str, ast.ClassDef]:
    return {node.name: node for node in body if isinstance(node, ast.ClassDef)}


def parameters(node: ast.FunctionDef) -> list[str]:
    return [argument.arg for argument in node.args.args][1:]


def differences(fake: type, real: ast.ClassDef) -> list[str]:
    """What the fake has and the real class has not, or has with other parameters."""
    methods: dict[str, list[list[str]]] = {}
    values = set()
    for node in real.body:
        if isinstance(node, ast.FunctionDef):
            if any("property" in ast.unparse(decorator) for decorator in node.decorator_list):
                values.add(node.name)
            methods.setdefault(node.name, []).append(parameters(node))
        elif isinstance(node, ast.AnnAssign):
            values.add(ast.unparse(node.target))
    found = []
    for name, member in vars(fake).items():
        if (name.startswith("_") and name not in BINDING) or inspect.isclass(member):
            continue
        if inspect.isfunction(member) and not issubclass(fake, Enum):
            given = list(inspect.signature(member).parameters)[1:]
            if name in ("__init__", "__new__") and name not in methods:
                continue  # made by TensorRT only
            if given not in methods.get(name, []):
                found.append(f"{fake.__name__}.{name}{given}, really {methods.get(name)}")
        elif not name.startswith("_") and name not in values:
            found.append(f"{fake.__name__}.{name}")
    return found


def test_the_fake_has_nothing_that_tensorrt_has_not(tensorrt: ModuleType, stub: str) -> None:
    real = classes(ast.parse(stub).body)
    fakes = {
        name: value
        for name, value in vars(tensorrt).items()
        if inspect.isclass(value) and value.__module__ == tensorrt.__name__ and name not in OWN
    }

    assert len(fakes) > 20
    assert set(fakes) <= set(real)
    assert [text for name, fake in fakes.items() for text in differences(fake, real[name])] == []
    severity = classes(real["ILogger"].body)["Severity"]
    assert differences(tensorrt.ILogger.Severity, severity) == []


@pytest.mark.parametrize(
    ("name", "member", "attribute"),
    [
        ("Builder", lambda self, network, configuration: None, "build_serialized_network"),
        ("IBuilderConfig", lambda self, pool: None, "set_memory_pool_limit"),
        ("BuilderFlag", None, "FP16"),
        ("EngineInspector", lambda self: None, "no_such_function"),
    ],
)
def test_a_fake_that_differs_is_noticed(
    root: Path, name: str, member: object, attribute: str
) -> None:
    """Against a stub of its own, so that the comparison is tested where ../shared is absent."""
    real = classes(
        ast.parse(
            "class Builder:\n def build_serialized_network(self, network, config): ...\n"
            "class IBuilderConfig:\n def set_memory_pool_limit(self, pool, pool_size): ...\n"
            "class BuilderFlag:\n TF32: int\n"
            "class EngineInspector:\n pass\n"
        ).body
    )

    fake = type(name, (), {attribute: member})

    [difference] = differences(fake, real[name])
    assert f"{name}.{attribute}" in difference


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
