"""The environment of `./run`: made once, replaced as a whole, and never half there."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from polling import poll

USER_PYTHON = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
# Making one, uv, the locked packages, the project's own.
STEPS_OF_SERVE = 4


def is_whole(checkout) -> bool:
    """Whether every step for at least the serve layer went into what .venv names."""
    folder = (checkout.root / ".venv").resolve()
    last = (folder / "installed").read_text().splitlines()[-1]
    return (folder / "layers.json").exists() and last.endswith(("server", "training"))


def leftovers(checkout) -> list[str]:
    """The folders beside the environment in use."""
    current = (checkout.root / ".venv").resolve()
    folders = (checkout.root / ".venvs").resolve().iterdir()
    return [folder.name for folder in folders if folder.is_dir() and folder != current]


def test_a_layer_is_installed_once_from_its_lock(checkout):
    first, second = checkout.run("serve"), checkout.run("segment")
    assert (first.returncode, second.returncode, second.stderr) == (0, 0, "")
    assert len(checkout.commands()) == STEPS_OF_SERVE
    packages, own = checkout.commands()[2:]
    assert packages[-2:] == ["-r", f"{checkout.root}/requirements/serve.txt"]
    assert {"--no-deps", "--require-hashes"} <= set(packages)
    folders = [f"{checkout.root}/{name}" for name in ("client", "server", "gateway")]
    assert set(folders) <= set(own)
    assert {"--no-deps", "--no-build-isolation"} <= set(own)


def test_a_larger_layer_serves_the_smaller_commands_and_a_new_one_keeps_the_others(
    checkout,
):
    for number, commands in enumerate([("loadtest",), ("export", "serve", "loadtest"), ("test",)]):
        for command in commands:
            checkout.run(command)
        assert checkout.environments() == number + 1
    assert "torch" in " ".join(checkout.commands()[-2])


@pytest.mark.parametrize("file", ["requirements/serve.txt", "server/pyproject.toml", None])
def test_a_changed_lock_or_version_or_place_of_the_checkout_installs_again(checkout, file):
    checkout.run("serve")
    if file:
        with (checkout.root / file).open("a") as changed:
            changed.write('version = "9"\n' if file.endswith("toml") else "pillow==11\n")
    else:
        checkout.root = checkout.root.rename(checkout.root.parent / "elsewhere")
    checkout.run("serve")
    assert checkout.commands()[-1][-1] == f"{checkout.root}/server"
    assert checkout.environments() == 2
    assert leftovers(checkout) == []


@pytest.mark.parametrize("ending", [None, signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_failed_or_interrupted_installation_leaves_the_environment_as_it_was(checkout, ending):
    checkout.run("serve")
    before = (checkout.root / ".venv").resolve()
    switch = checkout.switch("hold" if ending else "fail")
    switch.touch()
    process = checkout.start("export")
    if ending:
        assert poll(lambda: checkout.environments() == 2)
        os.killpg(process.pid, ending)
    output, errors = process.communicate()
    switch.unlink()
    assert (process.returncode != 0, output) == (True, "")
    assert ending or "no such package" in errors
    assert (checkout.root / ".venv").resolve() == before
    assert checkout.run("serve").stderr == ""
    assert checkout.run("export").returncode == 0
    assert leftovers(checkout) == []


def test_killed_at_any_moment_it_is_whole_or_absent(checkout, monkeypatch):
    monkeypatch.setenv("STEP_SECONDS", "0.03")
    pick = random.Random(7)
    lock = checkout.root / "requirements/serve.txt"
    for number in range(12):
        lock.write_text(f"numpy==1.26.{number}\n")
        process = checkout.start("serve")
        time.sleep(pick.uniform(0, 0.6))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        assert not (checkout.root / ".venv").is_symlink() or is_whole(checkout)
    assert checkout.run("serve").returncode == 0
    assert is_whole(checkout)
    assert leftovers(checkout) == []


@pytest.mark.parametrize("is_killed", [False, True])
def test_a_second_one_says_for_whom_it_waits_and_goes_on(checkout, is_killed):
    checkout.switch("hold").touch()
    first = checkout.start("serve", "--http-port", "9000")
    assert poll(checkout.environments)
    second = checkout.start("segment")
    assert "(./run serve --http-port 9000)" in second.stderr.readline()
    if is_killed:
        os.killpg(first.pid, signal.SIGKILL)
    checkout.switch("hold").unlink()
    outputs = [process.communicate()[0] for process in (first, second)]
    assert ["ran in" in output for output in outputs] == [not is_killed, True]
    assert checkout.environments() == 1 + is_killed
    assert is_whole(checkout)


def test_an_environment_that_runs_something_is_not_removed(checkout):
    checkout.run("serve")
    used = (checkout.root / ".venv").resolve()
    shutil.copy(shutil.which("sleep"), used / "bin/tritonserver")
    with subprocess.Popen([used / "bin/tritonserver", "600"]) as server:
        checkout.run("export")
        server.kill()
        assert used.exists()
    checkout.run("test")
    assert not used.exists()


def plant(root: Path) -> Path:
    """A folder .venv whose Python is the user's, as a killed `venv --clear` leaves it."""
    folder = root / ".venv"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin/python").symlink_to(USER_PYTHON)
    return folder


@pytest.mark.parametrize("named", [True, False])
def test_a_python_without_its_environment_is_replaced(checkout, tmp_path, monkeypatch, named):
    if not named:  # PATH decides, and must not find what was planted
        monkeypatch.delenv("PYTHON")
        monkeypatch.setenv("PATH", f"{Path(USER_PYTHON).parent}:{os.environ['PATH']}")
    plant(checkout.root)
    assert checkout.run("serve").returncode == 0
    made, *installs = checkout.commands()
    assert Path(made[0]).parent == Path(USER_PYTHON).parent
    assert all(Path(command[0]).is_relative_to(checkout.root / ".venvs") for command in installs)
    assert (checkout.root / ".venv").is_symlink()
    assert leftovers(checkout) == []
    # Nor does pip start in such a Python.
    other = plant(tmp_path)
    guard = installs[0][installs[0].index("-c") + 1]
    command = [other / "bin/python", "-I", "-c", guard, other, "pip", "--version"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (1, "")
    assert str(tmp_path) in result.stderr


@pytest.mark.parametrize("made_by", ["the user", "0.1"])
def test_an_environment_of_the_user_is_kept_and_one_of_0_1_is_not(checkout, made_by):
    folder = plant(checkout.root)
    (folder / "pyvenv.cfg").write_text(f"home = {Path(USER_PYTHON).parent}\n")
    if made_by == "0.1":
        (folder / "installed-serve").touch()
    result = checkout.run("serve")
    kept = [str(found) for found in checkout.root.glob(".venv-before-*/bin/python")]
    assert len(kept) == (made_by == "the user")
    assert all(str(Path(python).parents[1]) in result.stderr for python in kept)
    assert leftovers(checkout) == []
