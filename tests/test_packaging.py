"""The version is one for the whole repository, and the client's distribution is fit to publish."""

import email
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
VERSION_FILE = ROOT / "client" / "pem_client" / "_version.py"
# Not of the installed packages, which may be those of another checkout, or of an earlier version.
VERSION = re.findall(r'^__version__ = "(.+)"$', VERSION_FILE.read_text(), re.MULTILINE)[0]
PROJECTS = sorted(path.parent.name for path in ROOT.glob("*/pyproject.toml"))


def call(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("project", PROJECTS)
def test_every_project_reads_the_version_from_one_file(project: str) -> None:
    settings = tomllib.loads((ROOT / project / "pyproject.toml").read_text())
    assert settings["project"]["dynamic"] == ["version"]
    source = ROOT / project / settings["tool"]["hatch"]["version"]["path"]
    assert source.resolve() == VERSION_FILE
    name = re.escape(settings["project"]["name"])
    packages = [path.parent for path in (ROOT / project).glob("*/__init__.py")]
    assert packages
    for package in packages:  # each tells it as __version__
        text = (package / "__init__.py").read_text()
        assert re.search(rf'\bversion\("{name}"\)|_version import __version__', text)


@pytest.mark.parametrize("command", [(), ("demo",), ("test",)])
def test_every_command_prints_the_version(tmp_path: Path, command: tuple[str]) -> None:
    assert call(ROOT / "run", *command, "--version", cwd=tmp_path) == f"{VERSION}\n"


def test_the_changelog_and_the_images_have_this_version() -> None:
    releases = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert VERSION in releases[:2]  # at the top, or below "Unreleased"
    files = [ROOT / "docker-compose.yml", *(ROOT / "deploy").rglob("kustomization.yaml")]
    texts = "\n".join(file.read_text() for file in files)
    tags = re.findall(r"(?:image: pem/\w+:|newTag: )(\S+?)}?$", texts, re.MULTILINE)
    assert len(tags) > 4
    assert set(tags) == {VERSION}


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the client's sdist and the wheel that is built from it; no network."""
    target = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", target, ROOT / "client"]
    call(*build, cwd=target)
    return target


def test_the_distributions_of_the_client_pass_the_check_of_the_index(distributions: Path) -> None:
    files = sorted(distributions.iterdir())
    assert [file.suffix for file in files] == [".whl", ".gz"]
    call(sys.executable, "-m", "twine", "check", "--strict", *files, cwd=distributions)


def test_the_wheel_has_its_version_license_and_types(distributions: Path) -> None:
    (wheel,) = distributions.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        files = {Path(name).name: archive.read(name) for name in archive.namelist()}
    metadata = email.message_from_bytes(files["METADATA"])
    assert metadata["Version"] == VERSION
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert "Typing :: Typed" in metadata.get_all("Classifier", [])
    assert "py.typed" in files
    assert files["LICENSE"] == (ROOT / "LICENSE").read_bytes()


def test_the_source_distribution_holds_the_client_and_nothing_beside(distributions: Path) -> None:
    (sdist,) = distributions.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        folders = {name.split("/")[1] for name in archive.getnames() if name.count("/") > 1}
    assert folders == {"pem_client"}
