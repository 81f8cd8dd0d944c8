"""`./run`: its commands, what it hands to them, and its errors where it cannot work."""

import os

import pytest


def test_its_help_and_an_unknown_command_install_nothing(checkout):
    listed = checkout.run().stdout
    for command in ("demo", "serve", "segment", "export", "import-weights", "test", "lint", "lock"):
        assert f"./run {command} " in listed
    assert "--all" in checkout.run("test", "--help").stdout
    unknown = checkout.run("sevre")
    assert (unknown.returncode, unknown.stderr.count("\n")) == (2, 1)
    assert "sevre" in unknown.stderr
    assert checkout.commands() == []


def test_a_command_gets_its_arguments_and_the_directory_of_the_user(checkout, tmp_path):
    (tmp_path / "images").mkdir()
    arguments = ("demo", "my street.jpg", "--threshold", "0.3")
    ran = f"ran in {tmp_path}/images: -m pem_gateway demo my street.jpg --threshold 0.3"
    assert ran in checkout.run(*arguments, cwd=tmp_path / "images").stdout
    assert f"{checkout.root}/build/export_onnx.py --fp16" in checkout.run("export", "--fp16").stdout


@pytest.mark.parametrize(
    ("arguments", "passed"),
    [(["tests", "-x"], " -m not slow tests -x"), (["--all", "tests"], " tests")],
)
def test_the_tests_run_after_lint_and_end_with_the_code_of_pytest(checkout, arguments, passed):
    result = checkout.run("test", *arguments)
    programs = [line.split(": ", 1)[1].split()[1] for line in result.stdout.splitlines()]
    assert programs == ["ruff", "ruff", "mypy", "pytest"]
    pytest_command = f"-m pytest -n 2 --dist loadgroup{passed}\n"
    assert result.stdout.endswith(f"ran in {checkout.root}: {pytest_command}")
    assert result.returncode == 5


@pytest.mark.parametrize("machine", ["Darwin arm64", "Linux aarch64"])
def test_another_machine_gets_what_works_there(checkout, monkeypatch, machine):
    uname = checkout.script("uname", f"#!/bin/sh\necho {machine}\n")
    monkeypatch.setenv("PATH", f"{uname.parent}:{os.environ['PATH']}")
    result = checkout.run("demo")
    assert result.returncode == 1
    assert machine in result.stderr
    assert "pip install ./client" in result.stderr
    assert checkout.commands() == []
    assert checkout.run().returncode == 0


@pytest.mark.parametrize("problem", [None, "The project needs Python 3.11 or 3.12."])
def test_a_python_that_does_not_run_or_cannot_serve_is_named(checkout, monkeypatch, problem):
    python = checkout.root / "no-python"
    if problem:
        python = checkout.script("old-python", f"#!/bin/sh\necho '{problem}'\nexit 1\n")
    monkeypatch.setenv("PYTHON", str(python))
    result = checkout.run("serve")
    assert result.returncode == 1
    assert (f"{python}: {problem}" if problem else str(python)) in result.stderr
    assert "Traceback" not in result.stderr
    assert checkout.commands() == []
