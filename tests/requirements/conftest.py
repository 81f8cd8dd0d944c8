"""A checkout of only what `./run` reads, with a fake installer that needs no network and no time.

The fake makes an environment of one script that answers as Python does, and writes down each step
of an installation. Everything else, locks, folders and links, is the real thing.
"""

import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL, PIPE, CompletedProcess, Popen

import pytest

ROOT = Path(__file__).resolve().parents[2]
USER_PYTHON = os.path.realpath(getattr(sys, "_base_executable", sys.executable))

# Takes the place of requirements/environment.py, and is that but for what a step runs.
FAKE_INSTALLER = r"""
import json, os, shutil, sys, time
from pathlib import Path
sys.path.insert(0, os.path.dirname(__file__))
import real
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
        shutil.copy(os.environ["FAKE_PYTHON"], new / "bin/python")
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
    root: Path
    steps: Path

    def start(self, *arguments: str, cwd: Path | None = None) -> Popen[str]:
        """Start `./run`, in a process group of its own."""
        streams = {"stdin": DEVNULL, "stdout": PIPE, "stderr": PIPE, "text": True}
        command = [self.root / "run", *arguments]
        return Popen(command, cwd=cwd or self.root, start_new_session=True, **streams)

    def run(self, *arguments: str, cwd: Path | None = None) -> CompletedProcess[str]:
        """Run `./run` to its end."""
        process = self.start(*arguments, cwd=cwd)
        output, errors = process.communicate()
        return CompletedProcess(arguments, process.returncode, output, errors)

    def commands(self) -> list[list[str]]:
        """Each command of an installation, in order."""
        text = self.steps.read_text() if self.steps.exists() else ""
        return [json.loads(line) for line in text.splitlines()]

    def environments(self) -> int:
        """How many environments were begun."""
        return sum("venv" in command for command in self.commands())

    def switch(self, name: str) -> Path:
        """The file whose presence makes the installer `hold` or `fail`."""
        return Path(f"{self.steps}.{name}")

    def script(self, name: str, text: str) -> Path:
        """Write a program beside the checkout."""
        path = self.root.with_name(name)
        path.write_text(text)
        path.chmod(0o755)
        return path


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    """With a space in its path, as a user's may have."""
    root = tmp_path / "a checkout"
    layers = "client server gateway build training bench loadtest fleet"
    for project in layers.split():
        (root / project).mkdir(parents=True)
        (root / project / "pyproject.toml").write_text(f'[project]\nname = "{project}"\n')
    (root / "requirements").mkdir()
    (root / "server/pem_server").mkdir()
    shutil.copy(ROOT / "server/pem_server/python_check.py", root / "server/pem_server")
    shutil.copy(ROOT / "run", root)
    shutil.copy(ROOT / "requirements/environment.py", root / "requirements/real.py")
    (root / "requirements/environment.py").write_text(FAKE_INSTALLER)
    for lock in ("serve", "load", "network", "test", "uv"):
        (root / f"requirements/{lock}.txt").write_text("numpy==1.26.4 \\\n    --hash=sha256:00\n")
    made = Checkout(root, tmp_path / "steps")
    monkeypatch.setenv("FAKE_PYTHON", str(made.script("python", FAKE_PYTHON)))
    monkeypatch.setenv("PYTHON", USER_PYTHON)
    monkeypatch.setenv("STEPS", str(made.steps))
    return made
