"""`./run`: its verbs, and the environment it makes once and again only when something changed.

A stand-in takes the place of Python, so that nothing is installed: it answers what `./run` asks
and writes down each call of pip.
"""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

STAND_IN = r"""#!/usr/bin/env bash
case "$*" in
*interpreter.py) exit 0 ;;
--version) echo Python 3.12.1 ;;
*sys.version_info*) echo "(3, 12)" ;;
"-m venv --clear "*) rm -rf "$4" && mkdir -p "$4/bin" && cp "$0" "$4/bin/python" ;;
"-m pip --version") exit 0 ;;
"-m pip install "*)
    echo "$*" >>"$CALLS"
    while [[ -e $CALLS.hold ]]; do sleep 0.05; done
    [[ ! -e $CALLS.fail ]] ;;
*) echo "ran in $PWD: $*" ;;
esac
"""


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout with only what `./run` reads, a folder with a space in its name."""
    root = tmp_path / "a checkout"
    for project in ("client", "server", "build", "training"):
        (root / project).mkdir(parents=True)
        (root / project / "pyproject.toml").write_text(f"# {project}\n")
    (root / "constraints.txt").write_text("numpy==1.26.4\n")
    shutil.copy(ROOT / "run", root / "run")
    stand_in = tmp_path / "python"
    stand_in.write_text(STAND_IN)
    stand_in.chmod(0o755)
    monkeypatch.setenv("PYTHON", str(stand_in))
    monkeypatch.setenv("CALLS", str(tmp_path / "pip-calls"))
    return root


def test_alone_it_lists_every_verb_and_installs_nothing(checkout):
    listed = run(checkout).stdout
    for verb in ("demo", "serve", "segment", "export", "import-weights", "test", "lint"):
        assert f"./run {verb} " in listed
    assert installs() == []


def test_an_unknown_verb_is_one_sentence(checkout):
    result = run(checkout, "sevre")
    assert result.returncode == 2
    assert result.stderr == "There is no verb sevre: ./run alone lists them.\n"


def test_a_verb_gets_its_arguments_and_the_directory_of_the_user(checkout, tmp_path):
    (tmp_path / "images").mkdir()
    result = run(checkout, "demo", "my street.jpg", "--threshold", "0.3", cwd=tmp_path / "images")
    assert f"ran in {tmp_path}/images: -m pem_server demo my street.jpg --threshold 0.3" in (
        result.stdout
    )


def test_a_layer_is_installed_once_and_with_the_pins(checkout):
    first, second = run(checkout, "serve"), run(checkout, "segment")
    (call,) = installs()
    assert f"-c {checkout}/constraints.txt -e {checkout}/client -e {checkout}/server" in call
    assert "installing" in first.stderr
    assert second.stderr == ""


def test_a_larger_layer_serves_the_smaller_verbs_and_not_the_other_way_round(checkout):
    run(checkout, "export")
    run(checkout, "serve")
    assert len(installs()) == 1
    run(checkout, "test")
    assert len(installs()) == 2
    assert "pytest ruff mypy" in installs()[1]


@pytest.mark.parametrize("changed", ["constraints.txt", "server/pyproject.toml"])
def test_a_changed_pin_installs_again(checkout, changed):
    run(checkout, "serve")
    (checkout / changed).write_text("changed\n")
    run(checkout, "serve")
    assert len(installs()) == 2


def test_a_checkout_that_moved_installs_again(checkout):
    run(checkout, "serve")
    moved = checkout.rename(checkout.parent / "elsewhere")
    run(moved, "serve")
    assert f"-e {moved}/server" in installs()[1]


def test_a_failed_installation_stops_the_verb_and_is_tried_again(checkout):
    failing = Path(os.environ["CALLS"] + ".fail")
    failing.touch()
    failed = run(checkout, "serve")
    assert "making .venv" in failed.stderr
    assert failed.returncode != 0
    assert "ran in" not in failed.stdout
    failing.unlink()
    again = run(checkout, "serve")
    assert again.returncode == 0
    assert "making .venv" not in again.stderr
    assert len(installs()) == 2


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_installation_starts_over_in_a_new_environment(checkout, ending):
    run(checkout, "serve")
    hold = Path(os.environ["CALLS"] + ".hold")
    hold.touch()
    interrupted = start(checkout, "export")
    wait_for_calls(2)
    os.killpg(interrupted.pid, ending)
    interrupted.communicate()
    hold.unlink()
    assert "making .venv" in run(checkout, "serve").stderr
    assert "making .venv" not in run(checkout, "serve").stderr
    assert len(installs()) == 3


@pytest.mark.skipif(not shutil.which("flock"), reason="without flock(1) nothing keeps two apart")
def test_two_at_once_install_once(checkout):
    hold = Path(os.environ["CALLS"] + ".hold")
    hold.touch()
    both = [start(checkout, "serve"), start(checkout, "segment")]
    wait_for_calls(1)
    hold.unlink()
    outputs = [process.communicate()[0] for process in both]
    assert all("ran in" in output for output in outputs)
    assert len(installs()) == 1


def test_a_python_that_does_not_run_is_named(checkout, monkeypatch):
    monkeypatch.setenv("PYTHON", "/nowhere/python3.12")
    result = run(checkout, "serve")
    assert result.returncode == 1
    assert "/nowhere/python3.12" in result.stderr
    assert "Traceback" not in result.stderr
    assert installs() == []


def test_a_python_that_cannot_serve_is_told_why(checkout, tmp_path, monkeypatch):
    old = tmp_path / "old-python"
    old.write_text("#!/bin/sh\necho 'The project needs Python 3.11 or 3.12.'\nexit 1\n")
    old.chmod(0o755)
    monkeypatch.setenv("PYTHON", str(old))
    assert f"{old}: The project needs Python 3.11 or 3.12." in run(checkout, "serve").stderr


def start(checkout, *arguments, cwd=None):
    return subprocess.Popen(
        [checkout / "run", *arguments],
        cwd=cwd or checkout,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def run(checkout, *arguments, cwd=None):
    process = start(checkout, *arguments, cwd=cwd)
    output, errors = process.communicate()
    return subprocess.CompletedProcess(arguments, process.returncode, output, errors)


def installs():
    calls = Path(os.environ["CALLS"])
    return calls.read_text().splitlines() if calls.exists() else []


def wait_for_calls(count):
    for _ in range(500):
        if len(installs()) == count:
            return
        time.sleep(0.02)
    pytest.fail("pip was not called")
