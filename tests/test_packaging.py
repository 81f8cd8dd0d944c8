"""The version is one for the whole repository, and the client's distribution is fit to publish."""

import email
import importlib
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import pem_client

PROJECTS = ("bench", "build", "client", "fleet", "loadtest", "server", "training")
PACKAGES = (
    "pem_bench",
    "pem_client",
    "pem_fleet",
    "pem_loadtest",
    "pem_server",
    "pem_training",
    "pemexport",
    "pemquant",
    "pemseg",
    "pemtrt",
)


def call(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_has_the_version_of_the_repository(package: str) -> None:
    assert importlib.import_module(package).__version__ == pem_client.__version__


@pytest.mark.parametrize("project", PROJECTS)
def test_every_project_reads_the_version_from_one_file(root: Path, project: str) -> None:
    settings = tomllib.loads((root / project / "pyproject.toml").read_text())
    assert settings["project"]["dynamic"] == ["version"]
    source = root / project / settings["tool"]["hatch"]["version"]["path"]
    assert source.resolve() == root / "client" / "pem_client" / "_version.py"


@pytest.mark.parametrize("command", [(), ("demo",), ("export",), ("loadtest",), ("test",)])
def test_every_command_prints_the_version(root: Path, tmp_path: Path, command: tuple[str]) -> None:
    printed = call(root / "run", *command, "--version", cwd=tmp_path)
    assert printed == f"{pem_client.__version__}\n"


def test_the_changelog_and_the_images_have_this_version(root: Path) -> None:
    version = pem_client.__version__
    releases = re.findall(r"^## (\S+)", (root / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert version in releases[:2]  # at the top, or below "Unreleased"
    files = [root / "docker-compose.yml", *(root / "deploy").rglob("kustomization.yaml")]
    tags = [
        tag
        for file in files
        for tag in re.findall(r"(?:image: pem/\w+:|newTag: )(\S+?)}?$", file.read_text(), re.M)
    ]
    assert len(tags) > 4
    assert set(tags) == {version}


@pytest.fixture(scope="module")
def distributions(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the client's sdist and the wheel that is built from it; no network."""
    target = tmp_path_factory.mktemp("dist")
    call(
        *(sys.executable, "-m", "build", "--no-isolation", "--outdir", target, root / "client"),
        cwd=target,
    )
    return target


def test_the_distributions_of_the_client_pass_the_check_of_the_index(distributions: Path) -> None:
    files = sorted(distributions.iterdir())
    assert [file.suffix for file in files] == [".whl", ".gz"]
    call(sys.executable, "-m", "twine", "check", "--strict", *files, cwd=distributions)


def test_the_client_tells_the_index_what_it_is(root: Path, distributions: Path) -> None:
    (wheel,) = distributions.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (path,) = (name for name in names if name.endswith("/METADATA"))
        metadata = email.message_from_bytes(archive.read(path))
    assert metadata["Version"] == pem_client.__version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert "Typing :: Typed" in metadata.get_all("Classifier", [])
    assert "pem_client/py.typed" in names
    licenses = [name for name in names if name.endswith("/LICENSE")]
    assert licenses
    with zipfile.ZipFile(wheel) as archive:
        assert archive.read(licenses[0]) == (root / "LICENSE").read_bytes()


def test_the_source_distribution_holds_the_client_and_nothing_beside(distributions: Path) -> None:
    (sdist,) = distributions.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        folders = {name.split("/")[1] for name in archive.getnames() if name.count("/") > 1}
    assert folders == {"pem_client"}
