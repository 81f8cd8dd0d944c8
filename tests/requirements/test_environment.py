"""The environment of `./run`: made once, replaced as a whole, and never half there."""

import os
import random
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Checkout

USER_PYTHON = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
# Making one, uv, the locked packages, the project's own.
STEPS_OF_SERVE = 4


def is_whole(checkout: "Checkout") -> bool:
    """Whether every step for at least the serve layer went into what .venv names."""
    folder = (checkout.root / ".venv").resolve()
    installed = (folder / "installed").read_text().splitlines()
    return (folder / "layers.json").exists() and installed[-1].endswith(("server", "training"))


def leftovers(checkout: "Checkout") -> list[str]:
    """The folders beside the environment in use."""
    current = (checkout.root / ".venv").resolve().name
    folders = [entry.name for entry in (checkout.root / ".venvs").iterdir() if entry.is_dir()]
    return [name for name in folders if name != current]


def test_a_layer_is_installed_once_from_its_lock(checkout: "Checkout") -> None:
    first, second = checkout.run("serve"), checkout.run("segment")
    assert (first.returncode, second.returncode, second.stderr) == (0, 0, "")
    assert len(checkout.commands()) == STEPS_OF_SERVE
    packages, own = checkout.commands()[2:]
    assert packages[-2:] == ["-r", f"{checkout.root}/requirements/serve.txt"]
    assert {"--no-deps", "--require-hashes"} <= set(packages)
    folders = [f"{checkout.root}/{name}" for name in ("client", "server", "gateway")]
    assert set(folders) <= set(own)
    assert {"--no-deps", "--no-build-isolation"} <= set(own)


def test_a_larger_layer_serves_the_smaller_commands(checkout: "Checkout") -> None:
    checkout.run("export")
    checkout.run("serve")
    assert checkout.environments() == 1
    checkout.run("test")
    checkout.run("loadtest")
    assert checkout.environments() == 2


def test_a_new_layer_keeps_the_others(checkout: "Checkout") -> None:
    checkout.run("loadtest")
    checkout.run("export")
    checkout.run("loadtest")
    assert checkout.environments() == 2
    assert "torch" in " ".join(checkout.commands()[-2])


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("requirements/serve.txt", "numpy==2\n"),
        ("server/pyproject.toml", '[project]\nname = "server"\nversion = "9"\n'),
    ],
)
def test_a_changed_lock_or_version_installs_again(
    checkout: "Checkout", file: str, text: str
) -> None:
    checkout.run("serve")
    (checkout.root / file).write_text(text)
    checkout.run("serve")
    assert checkout.environments() == 2
    assert leftovers(checkout) == []


def test_a_checkout_that_moved_installs_again(checkout: "Checkout") -> None:
    checkout.run("serve")
    checkout.root = checkout.root.rename(checkout.root.parent / "elsewhere")
    checkout.run("serve")
    assert checkout.commands()[-1][-1] == f"{checkout.root}/server"


def test_a_failed_installation_leaves_the_environment_as_it_was(checkout: "Checkout") -> None:
    checkout.run("serve")
    before = (checkout.root / ".venv").resolve()
    checkout.switch("fail").touch()
    failed = checkout.run("export")
    assert failed.returncode == 1
    assert "no such package" in failed.stderr
    assert failed.stdout == ""
    assert (checkout.root / ".venv").resolve() == before
    assert leftovers(checkout) == []
    assert checkout.run("serve").returncode == 0
    checkout.switch("fail").unlink()
    assert checkout.run("export").returncode == 0


def test_uv_that_fails_is_followed_by_pip(checkout: "Checkout") -> None:
    installer = checkout.root / "requirements/environment.py"
    fails = 'if "uv" in command[5:6]: raise real.InstallationError("no route")\n    if "venv"'
    installer.write_text(installer.read_text().replace('if "venv"', fails))
    result = checkout.run("serve")
    assert result.returncode == 0
    assert "no route" in result.stderr
    assert [command[5] for command in checkout.commands()[1:]] == ["pip", "uv", "pip", "uv", "pip"]


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_installation_leaves_what_was_there(
    checkout: "Checkout", ending: signal.Signals
) -> None:
    checkout.run("serve")
    checkout.switch("hold").touch()
    interrupted = checkout.start("export")
    checkout.wait_for(STEPS_OF_SERVE + 1)
    os.killpg(interrupted.pid, ending)
    interrupted.communicate()
    checkout.switch("hold").unlink()
    assert interrupted.returncode != 0
    assert checkout.run("serve").stderr == ""
    assert checkout.run("export").returncode == 0
    assert leftovers(checkout) == []


def test_killed_at_any_moment_it_is_whole_or_absent(
    checkout: "Checkout", monkeypatch: pytest.MonkeyPatch
) -> None:
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


def test_two_at_once_install_once_and_the_second_says_for_whom_it_waits(
    checkout: "Checkout",
) -> None:
    checkout.switch("hold").touch()
    first = checkout.start("serve", "--http-port", "9000")
    checkout.wait_for(1)
    second = checkout.start("segment")
    assert second.stderr
    waiting = second.stderr.readline()
    checkout.switch("hold").unlink()
    outputs = [process.communicate()[0] for process in (first, second)]
    assert "(./run serve --http-port 9000)" in waiting
    assert all("ran in" in output for output in outputs)
    assert checkout.environments() == 1


def test_who_waits_for_a_killed_one_goes_on(checkout: "Checkout") -> None:
    checkout.switch("hold").touch()
    first = checkout.start("serve")
    checkout.wait_for(1)
    second = checkout.start("segment")
    assert second.stderr
    second.stderr.readline()
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    checkout.switch("hold").unlink()
    assert "ran in" in second.communicate()[0]
    assert is_whole(checkout)


def test_an_environment_that_runs_something_is_not_removed(checkout: "Checkout") -> None:
    checkout.run("serve")
    used = (checkout.root / ".venv").resolve()
    shutil.copy(shutil.which("sleep") or "", used / "bin/tritonserver")
    with subprocess.Popen([used / "bin/tritonserver", "600"]) as server:
        try:
            checkout.run("export")
            assert used.exists()
        finally:
            server.kill()
    checkout.run("test")
    assert not used.exists()


def plant(root: Path, *, whole: bool) -> Path:
    """A folder .venv whose Python is the user's: of a killed `venv --clear`, unless `whole`."""
    folder = root / ".venv"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin/python").symlink_to(USER_PYTHON)
    if whole:
        (folder / "pyvenv.cfg").write_text(f"home = {Path(USER_PYTHON).parent}\n")
    return folder


@pytest.mark.parametrize("named", [True, False])
def test_a_python_without_its_environment_is_replaced(
    checkout: "Checkout", monkeypatch: pytest.MonkeyPatch, named: bool
) -> None:
    if not named:  # PATH decides, and must not find what was planted
        monkeypatch.delenv("PYTHON")
        monkeypatch.setenv("PATH", f"{Path(USER_PYTHON).parent}:{os.environ['PATH']}")
    plant(checkout.root, whole=False)
    assert checkout.run("serve").returncode == 0
    made, *installs = checkout.commands()
    assert Path(made[0]).parent == Path(USER_PYTHON).parent
    assert all(Path(command[0]).is_relative_to(checkout.root / ".venvs") for command in installs)
    assert (checkout.root / ".venv").is_symlink()
    assert leftovers(checkout) == []


def test_an_environment_of_the_user_is_kept(checkout: "Checkout") -> None:
    plant(checkout.root, whole=True)
    result = checkout.run("serve")
    (kept,) = checkout.root.glob(".venv-before-*")
    assert (kept / "bin/python").exists()
    assert str(kept) in result.stderr


def test_an_environment_of_0_1_is_removed(checkout: "Checkout") -> None:
    (plant(checkout.root, whole=True) / "installed-serve").touch()
    checkout.run("serve")
    assert list(checkout.root.glob(".venv-before-*")) == []
    assert leftovers(checkout) == []


def test_pip_never_starts_in_the_python_of_the_user(checkout: "Checkout", tmp_path: Path) -> None:
    packages = Path(sysconfig.get_path("purelib", vars={"base": sys.base_prefix}))
    before = sorted(packages.iterdir())
    plant(tmp_path, whole=False)
    checkout.run("serve")
    command = checkout.commands()[1]
    guard = command[command.index("-c") + 1]
    result = subprocess.run(
        [tmp_path / ".venv/bin/python", "-I", "-c", guard, tmp_path / ".venv", "pip", "--version"],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1
    assert result.stdout == ""
    assert str(tmp_path) in result.stderr
    assert sorted(packages.iterdir()) == before
