"""A checkout of only what `./run` reads, with a fake installer that needs no network and no time.

The fake makes an environment of one script that answers as Python does, and writes down each step
of an installation. Everything else, locks, folders and links, is the real thing.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
USER_PYTHON = os.path.realpath(getattr(sys, "_base_executable", sys.executable))

# Takes the place of requirements/environment.py, and is that but for what a step runs.
FAKE_INSTALLER = r"""
import importlib.util, json, os, sys, time
from pathlib import Path
spec = importlib.util.spec_from_file_location("real", Path(__file__).with_name("real.py"))
real = importlib.util.module_from_spec(spec)
spec.loader.exec_module(real)
steps = Path(os.environ["STEPS"])

def run_step(title, command):
    real.log(title)
    with steps.open("a") as file:
        print(json.dumps(command), file=file)
    time.sleep(float(os.environ.get("STEP_SECONDS", 0)))
    if Path(f"{steps}.fail").exists():
        raise real.InstallationError("no such package")
    if "venv" in command:
        new = Path(command[-1])
        (new / "bin").mkdir(parents=True)
        python = new / "bin/python"
        python.write_text(Path(os.environ["FAKE_PYTHON"]).read_text())
        python.chmod(0o755)
        (new / "pyvenv.cfg").touch()
    else:
        with (Path(command[0]).parents[1] / "installed").open("a") as file:
            print(command[-1], file=file)
    while Path(f"{steps}.hold").exists():
        time.sleep(0.02)

real.run_step = run_step
sys.exit(real.main(sys.argv[1:]))
"""

FAKE_PYTHON = f"""#!/usr/bin/env bash
case "$*" in
*python_check.py) ;;
"-I "*/environment.py*) exec {USER_PYTHON} "$@" ;;
"-m pytest"*) echo "ran in $PWD: $*"; exit 5 ;;
*) echo "ran in $PWD: $*" ;;
esac
"""


@dataclass
class Checkout:
    """The checkout, and what its fake installer was told."""

    root: Path
    steps: Path

    def start(self, *arguments: str, cwd: Path | None = None) -> subprocess.Popen[str]:
        """Start `./run`, in a process group of its own."""
        return subprocess.Popen(
            [self.root / "run", *arguments],
            cwd=cwd or self.root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run `./run` to its end."""
        process = self.start(*arguments, cwd=cwd)
        output, errors = process.communicate()
        return subprocess.CompletedProcess(arguments, process.returncode, output, errors)

    def commands(self) -> list[list[str]]:
        """Each command of an installation, in order."""
        lines = self.steps.read_text().splitlines() if self.steps.exists() else []
        return [json.loads(line) for line in lines]

    def environments(self) -> int:
        """How many environments were begun."""
        return sum("venv" in command for command in self.commands())

    def switch(self, name: str) -> Path:
        """The file whose presence makes the installer `hold` or `fail`."""
        return Path(f"{self.steps}.{name}")

    def wait_for(self, steps: int) -> None:
        """Wait until the installer has begun so many steps."""
        wait_until(lambda: len(self.commands()) >= steps)


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Look again and again, for long enough on any machine."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def make_projects(root: Path, projects: Sequence[str]) -> None:
    """A pyproject.toml each."""
    for project in projects:
        (root / project).mkdir(parents=True)
        (root / project / "pyproject.toml").write_text(f'[project]\nname = "{project}"\n')


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    """With a space in its path, as a user's may have."""
    root = tmp_path / "a checkout"
    make_projects(
        root,
        [
            "client",
            "server",
            "gateway",
            "build",
            "training",
            "bench",
            "loadtest",
            "fleet",
            "requirements",
        ],
    )
    (root / "server/pem_server").mkdir()
    shutil.copy(ROOT / "server/pem_server/python_check.py", root / "server/pem_server")
    shutil.copy(ROOT / "run", root)
    shutil.copy(ROOT / "requirements/environment.py", root / "requirements/real.py")
    (root / "requirements/environment.py").write_text(FAKE_INSTALLER)
    for lock in ("serve", "load", "network", "test", "uv"):
        (root / f"requirements/{lock}.txt").write_text("numpy==1.26.4 \\\n    --hash=sha256:00\n")
    fake_python = tmp_path / "python"
    fake_python.write_text(FAKE_PYTHON)
    fake_python.chmod(0o755)
    monkeypatch.setenv("FAKE_PYTHON", str(fake_python))
    monkeypatch.setenv("PYTHON", USER_PYTHON)
    monkeypatch.setenv("STEPS", str(tmp_path / "steps"))
    return Checkout(root, tmp_path / "steps")
