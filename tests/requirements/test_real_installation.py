"""An installation with the real venv and the real pip, from a folder of packages of this test.

uv is a package that hands its arguments to pip, as does the real one to itself.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
USER_PYTHON = os.path.realpath(getattr(sys, "_base_executable", sys.executable))

UV = """
import runpy, sys
place = sys.argv.index("--python")
sys.argv = ["pip", "install", *sys.argv[place + 2:]]
runpy.run_module("pip", run_name="__main__", alter_sys=True)
"""
BACKEND = '''
import tomllib, zipfile
from pathlib import Path

def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    """A wheel that adds the project's folder to the path."""
    name = tomllib.loads(Path("pyproject.toml").read_text())["project"]["name"]
    info = f"{name}-1.dist-info"
    with zipfile.ZipFile(Path(wheel_directory, f"{name}-1-py3-none-any.whl"), "w") as wheel:
        wheel.writestr(f"{name}.pth", str(Path.cwd()))
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\\nName: {name}\\nVersion: 1\\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\\nTag: py3-none-any\\n")
        wheel.writestr(f"{info}/RECORD", "")
    return f"{name}-1-py3-none-any.whl"
'''


def make_wheel(folder: Path, name: str, module: str, text: str) -> str:
    """Write a package of one file; its line of a lock file comes back."""
    info = f"{name}-1.0.dist-info"
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(module, text)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return f"{name}==1.0 --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With the planted remains of a killed `venv --clear`."""
    root = tmp_path / "checkout"
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    for project in ("client", "server", "gateway"):
        (root / project).mkdir(parents=True)
        (root / project / f"{project}_module.py").touch()
        (root / project / "pyproject.toml").write_text(
            f'[build-system]\nrequires = []\nbuild-backend = "backend"\n'
            f'[project]\nname = "pem_{project}"\n'
        )
    (root / "requirements").mkdir()
    shutil.copy(ROOT / "requirements/environment.py", root / "requirements")
    (root / "requirements/uv.txt").write_text(make_wheel(wheels, "uv", "uv/__main__.py", UV))
    lock = make_wheel(wheels, "backend", "backend.py", BACKEND)
    (root / "requirements/serve.txt").write_text(lock)
    (root / ".venv/bin").mkdir(parents=True)
    (root / ".venv/bin/python").symlink_to(USER_PYTHON)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    monkeypatch.setenv("PIP_TARGET", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("VIRTUAL_ENV", str(tmp_path / "elsewhere"))
    return root


def set_up(checkout: Path) -> "subprocess.CompletedProcess[str]":
    """As `./run` does, by the planted Python."""
    script = checkout / "requirements/environment.py"
    command = [checkout / ".venv/bin/python", "-I", script, "serve", "demo"]
    return subprocess.run(command, capture_output=True, text=True)


def test_it_goes_into_the_environment_and_nowhere_else(checkout: Path, tmp_path: Path) -> None:
    packages = Path(sysconfig.get_path("purelib", vars={"base": sys.base_prefix}))
    before = sorted(packages.iterdir())
    result = set_up(checkout)
    assert result.returncode == 0, result.stderr
    program = "import backend, client_module, server_module, sys; print(sys.prefix)"
    python = checkout / ".venv/bin/python"
    assert subprocess.run([python, "-c", program], check=True, cwd=tmp_path).returncode == 0
    pip = (checkout / ".venv/bin/pip").read_text()
    assert pip.startswith(f"#!{(checkout / '.venv').resolve()}/bin/python")
    assert sorted(packages.iterdir()) == before
    assert not (tmp_path / "elsewhere").exists()


def test_a_package_with_another_hash_is_not_installed(checkout: Path) -> None:
    lock = checkout / "requirements/uv.txt"
    lock.write_text("uv==1.0 --hash=sha256:" + 64 * "0")
    result = set_up(checkout)
    assert result.returncode == 1
    assert "HASHES" in result.stderr
    assert not (checkout / ".venv/pyvenv.cfg").exists()
    assert [entry.name for entry in (checkout / ".venvs").iterdir()] == ["lock"]
