"""Rendered manifests, and the scripts of deploy/ as modules."""

import functools
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

Documents = list[dict[str, Any]]
OVERLAYS = ("gke-t4", "eks-t4", "aks-t4", "onprem-t4", "cpu")
# What an overlay may choose instead, or in addition.
COMBINATIONS = ("t4+hpa", "t4+keda+headroom", "t4+engine-image+keda", "t4+scale-to-zero")


@pytest.fixture(scope="session")
def deploy(root: Path) -> Path:
    """The folder of everything here."""
    return root / "deploy"


@pytest.fixture(scope="session", autouse=True)
def _rules_can_be_imported() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent))
        yield


@pytest.fixture
def script(deploy: Path, load_source: Callable[[Path], ModuleType]) -> Callable[[str], ModuleType]:
    """Load a script of deploy/ by its path there."""
    return lambda path: load_source(deploy / path)


@pytest.fixture(scope="session")
def render(deploy: Path) -> Callable[[Path], Documents]:
    """Run kustomize on a folder; every call gives documents of its own."""
    if not shutil.which("kubectl"):
        pytest.skip("kubectl, which carries kustomize, is not installed here")

    @functools.cache
    def text(folder: Path) -> str:
        command = ["kubectl", "kustomize", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""  # where kustomize says what it is going to drop
        return done.stdout

    return lambda folder: [document for document in yaml.safe_load_all(text(folder)) if document]


@pytest.fixture(params=[*OVERLAYS, *COMBINATIONS])
def manifests(
    request: pytest.FixtureRequest,
    deploy: Path,
    tmp_path: Path,
    render: Callable[[Path], Documents],
) -> Documents:
    """The manifests of each overlay, and of one of one's own with other components."""
    if request.param in OVERLAYS:
        return render(deploy / "overlays" / request.param)
    overlay = tmp_path.resolve() / "overlay"
    overlay.mkdir()
    near = os.path.relpath(deploy, overlay)
    shutil.copy(deploy / "overlays" / "gke-t4" / "nodes.yaml", overlay)
    kustomization = {
        "resources": [f"{near}/base"],
        "components": [f"{near}/components/{name}" for name in request.param.split("+")],
        "patches": [
            {"path": "nodes.yaml", "target": {"kind": "Deployment", "name": "pem-server"}},
            {"path": "nodes.yaml", "target": {"kind": "Job"}},
        ],
    }
    (overlay / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return render(overlay)


@pytest.fixture
def gke(deploy: Path, render: Callable[[Path], Documents]) -> Documents:
    """The manifests of one overlay, to be broken at will."""
    return render(deploy / "overlays" / "gke-t4")


@pytest.fixture(scope="session")
def dockerfile_stages(root: Path) -> dict[str, list[tuple[str, str]]]:
    """The instructions of every stage of the Dockerfile: (word, rest), continued lines joined."""
    text = (root / "Dockerfile").read_text()
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    stages: dict[str, list[tuple[str, str]]] = {}
    name = ""
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        word, _, rest = line.strip().partition(" ")
        if word == "FROM":
            name = rest.rpartition(" AS ")[2]
            stages[name] = []
        stages[name].append((word, " ".join(rest.split())))
    return stages
