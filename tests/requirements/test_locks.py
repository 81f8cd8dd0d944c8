"""requirements/*.txt: hashes, no addresses, and all that a pyproject.toml asks for."""

import importlib
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
PYTHONS = ("3.11", "3.12")


with pytest.MonkeyPatch.context() as patched:
    patched.syspath_prepend(ROOT / "requirements")  # which is no package
    ENVIRONMENT, LOCK = map(importlib.import_module, ("environment", "lock"))


def locked(name: str, python: str = "3.11") -> dict[str, Requirement]:
    """The packages that requirements/NAME.txt installs on that Python, by name."""
    text = (ROOT / f"requirements/{name}.txt").read_text().replace("\\\n", " ")
    requirements = [Requirement(line.split("--hash")[0]) for line in text.splitlines()]
    here = {"sys_platform": "linux", "platform_machine": "x86_64"}
    here |= {"python_version": python, "python_full_version": f"{python}.1"}
    used = [one for one in requirements if one.marker is None or one.marker.evaluate(here)]
    return {canonicalize_name(one.name): one for one in used}


def declared(project: str) -> list[Requirement]:
    """What a project of this repository depends on."""
    described = tomllib.loads((ROOT / project / "pyproject.toml").read_text())
    return [Requirement(text) for text in described["project"]["dependencies"]]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_every_package_has_a_version_and_a_hash_and_no_address(lock):
    text = lock.read_text()
    for requirement in re.split(r"\n(?=\S)", text.strip()):
        assert re.match(r"[a-z0-9-]+(\[[a-z0-9,-]+\])?==\S+", requirement), requirement
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", requirement), requirement
    assert not re.search(r"https?:|file:|--(extra-)?index|--find-links|\bgit\+", text)


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("layer", ENVIRONMENT.LAYERS)
def test_what_a_project_declares_is_locked_in_its_layers(layer, python):
    packages = locked(layer, python)
    unlocked = {"torch", *map(canonicalize_name, LOCK.own_packages())}
    for project in ENVIRONMENT.LAYERS[layer]:
        for requirement in declared(project):
            name = canonicalize_name(requirement.name)
            assert (name in unlocked) != (name in packages)
            for version in packages[name].specifier if name in packages else ():
                assert requirement.specifier.contains(version.version), (project, name)
    assert "hatchling" in packages


def test_every_layer_has_the_versions_of_the_tests():
    everything = locked("test")
    for lock in LOCKS:
        for name, requirement in locked(lock.stem).items():
            assert name == "uv" or requirement.specifier == everything[name].specifier, lock


def test_torch_is_pinned_once_and_cuda_is_left_to_it():
    assert ENVIRONMENT.TORCH in map(str, declared("build"))
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["uv"]
    (torch,) = settings["dependency-metadata"]
    assert f"{torch['name']}=={torch['version']}" == ENVIRONMENT.TORCH
    cuda = re.compile(r"cuda-|triton$|nvidia-(?!pytriton)")
    assert [name for lock in LOCKS for name in locked(lock.stem) if cuda.match(name)] == []


def test_uv_uses_the_index_that_the_user_gave_pip(monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "https://mirror.example/simple")
    monkeypatch.delenv("UV_DEFAULT_INDEX", raising=False)
    with pytest.raises(ENVIRONMENT.InstallationError, match=r"^https://mirror\.example/simple$"):
        ENVIRONMENT.run_step("show", ["sh", "-c", "echo $UV_DEFAULT_INDEX; exit 1"])
