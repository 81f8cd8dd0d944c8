"""`./run`: its commands, what it hands to them, and what it says where it cannot work."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Checkout


def test_alone_it_lists_every_command_and_installs_nothing(checkout: "Checkout") -> None:
    listed = checkout.run().stdout
    for command in ("demo", "serve", "segment", "export", "import-weights", "test", "lint", "lock"):
        assert f"./run {command} " in listed
    assert checkout.commands() == []


def test_an_unknown_command_is_one_line(checkout: "Checkout") -> None:
    result = checkout.run("sevre")
    assert result.returncode == 2
    assert "sevre" in result.stderr
    assert result.stderr.count("\n") == 1
    assert checkout.commands() == []


def test_help_of_lint_and_test_installs_nothing(checkout: "Checkout") -> None:
    assert "--all" in checkout.run("test", "--help").stdout
    assert checkout.commands() == []


def test_a_command_gets_its_arguments_and_the_directory_of_the_user(
    checkout: "Checkout", tmp_path: Path
) -> None:
    (tmp_path / "images").mkdir()
    result = checkout.run("demo", "my street.jpg", "--threshold", "0.3", cwd=tmp_path / "images")
    assert f"ran in {tmp_path}/images: -m pem_gateway demo my street.jpg --threshold 0.3" in (
        result.stdout
    )
    assert f"{checkout.root}/build/export_onnx.py --fp16" in checkout.run("export", "--fp16").stdout


@pytest.mark.parametrize(
    ("arguments", "passed"),
    [
        (["tests/client", "-x"], "-m pytest -n 2 --dist loadgroup -m not slow tests/client -x"),
        (["--all", "tests/client"], "-m pytest -n 2 --dist loadgroup tests/client"),
    ],
)
def test_the_tests_run_after_lint_and_end_with_the_code_of_pytest(
    checkout: "Checkout", arguments: list[str], passed: str
) -> None:
    result = checkout.run("test", *arguments)
    assert [line.split(": ", 1)[1].split()[1] for line in result.stdout.splitlines()] == [
        "ruff", "ruff", "mypy", "pytest",
    ]  # fmt: skip
    assert result.stdout.endswith(f"ran in {checkout.root}: {passed}\n")
    assert result.returncode == 5


@pytest.mark.parametrize("machine", ["Darwin arm64", "Linux aarch64"])
def test_another_machine_is_told_what_works_there(
    checkout: "Checkout", tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine: str
) -> None:
    (tmp_path / "bin").mkdir()
    uname = tmp_path / "bin/uname"
    uname.write_text(f"#!/bin/sh\necho {machine}\n")
    uname.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    result = checkout.run("demo")
    assert result.returncode == 1
    assert machine in result.stderr
    assert "pip install ./client" in result.stderr
    assert checkout.commands() == []
    assert checkout.run().returncode == 0


def test_a_python_that_does_not_run_is_named(
    checkout: "Checkout", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHON", "/nowhere/python3.12")
    result = checkout.run("serve")
    assert result.returncode == 1
    assert "/nowhere/python3.12" in result.stderr
    assert "Traceback" not in result.stderr
    assert checkout.commands() == []


def test_a_python_that_cannot_serve_says_why(
    checkout: "Checkout", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / "old-python"
    old.write_text("#!/bin/sh\necho 'The project needs Python 3.11 or 3.12.'\nexit 1\n")
    old.chmod(0o755)
    monkeypatch.setenv("PYTHON", str(old))
    assert f"{old}: The project needs Python 3.11 or 3.12." in checkout.run("serve").stderr
