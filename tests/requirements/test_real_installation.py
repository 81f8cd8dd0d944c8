"""An installation with the real venv and the real pip, from a folder of packages of this test.

uv is a package that fails, so pip does its work, as where only pip's settings know the index.
"""

import hashlib
import inspect
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


def write_wheel(folder: Path, name: str, module: str, text: str) -> Path:
    """Write a package of one file."""
    path = Path(folder) / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        info = f"{name}-1.0.dist-info"
        wheel.writestr(module, text)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return path


BACKEND = f"""
import tomllib, zipfile
from pathlib import Path

{inspect.getsource(write_wheel)}
def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    name = tomllib.loads(Path("pyproject.toml").read_text())["project"]["name"]
    return write_wheel(wheel_directory, name, f"{{name}}.pth", str(Path.cwd())).name
"""


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With the planted remains of a killed `venv --clear`."""
    root, wheels = tmp_path / "checkout", tmp_path / "wheels"
    wheels.mkdir()
    build_system = '[build-system]\nrequires = []\nbuild-backend = "backend"\n'
    for project in ("client", "server", "gateway"):
        (root / project).mkdir(parents=True)
        (root / project / f"{project}_module.py").touch()
        described = f'{build_system}[project]\nname = "pem_{project}"\n'
        (root / project / "pyproject.toml").write_text(described)
    (root / "requirements").mkdir()
    shutil.copy(ROOT / "requirements/environment.py", root / "requirements")
    uv = write_wheel(wheels, "uv", "uv/__main__.py", "raise SystemExit(1)")
    backend = write_wheel(wheels, "backend", "backend.py", BACKEND)
    for lock, name, wheel in (("uv", "uv", uv), ("serve", "backend", backend)):
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        (root / f"requirements/{lock}.txt").write_text(f"{name}==1.0 --hash=sha256:{digest}\n")
    (root / ".venv/bin").mkdir(parents=True)
    (root / ".venv/bin/python").symlink_to(USER_PYTHON)
    settings = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels)}
    elsewhere = dict.fromkeys(("PIP_TARGET", "VIRTUAL_ENV"), str(tmp_path / "elsewhere"))
    for name, value in (settings | elsewhere).items():
        monkeypatch.setenv(name, value)
    return root


def set_up(checkout):
    """As `./run` does, by the planted Python."""
    program = [checkout / ".venv/bin/python", "-I", checkout / "requirements/environment.py"]
    return subprocess.run([*program, "serve", "demo"], capture_output=True, text=True)


def test_it_goes_into_the_environment_and_nowhere_else(checkout, tmp_path):
    packages = Path(sysconfig.get_path("purelib", vars={"base": sys.base_prefix}))
    before = sorted(packages.iterdir())
    result = set_up(checkout)
    assert result.returncode == 0, result.stderr
    command = [checkout / ".venv/bin/python", "-c", "import backend, client_module, server_module"]
    subprocess.run(command, check=True, cwd=tmp_path)
    pip = (checkout / ".venv/bin/pip").read_text()
    assert f"{(checkout / '.venv').resolve()}/bin/python" in pip.partition("import")[0]
    assert sorted(packages.iterdir()) == before
    assert not (tmp_path / "elsewhere").exists()


def test_a_package_with_another_hash_is_not_installed(checkout):
    (checkout / "requirements/uv.txt").write_text("uv==1.0 --hash=sha256:" + 64 * "0")
    result = set_up(checkout)
    assert result.returncode == 1
    assert "HASHES" in result.stderr
    assert not (checkout / ".venv/pyvenv.cfg").exists()
    assert [entry.name for entry in (checkout / ".venvs").iterdir()] == ["lock"]
