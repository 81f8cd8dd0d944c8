"""Rendered manifests, the services of docker-compose.yml and the stages of the Dockerfile."""

import functools
import json
import os
import shutil
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

from pem_server.checkout import ROOT

Documents = list[dict[str, Any]]
DEPLOY = ROOT / "deploy"
SERVICES = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
OVERLAYS = ("gke-t4", "eks-t4", "aks-t4", "onprem-t4", "cpu")
# What an overlay may choose instead, or in addition.
COMBINATIONS = ("t4+hpa", "t4+keda+headroom", "t4+engine-image+keda", "t4+scale-to-zero")


def load(path: str) -> Any:
    """The one document of a YAML file of deploy/."""
    return yaml.safe_load((DEPLOY / path).read_text())


def render(folder: Path) -> Documents:
    """Run kustomize on a folder; every call gives documents of its own."""
    if not shutil.which("kubectl"):
        pytest.skip("kubectl, which carries kustomize, is not installed here")
    return [document for document in yaml.safe_load_all(_rendered(folder)) if document]


@functools.cache
def _rendered(folder: Path) -> str:
    done = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True)
    # In standard error, kustomize says what it is going to drop.
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.fixture(params=[*OVERLAYS, *COMBINATIONS])
def manifests(request: pytest.FixtureRequest, tmp_path: Path) -> Documents:
    """The manifests of each overlay, and of one of one's own with other components."""
    if request.param in OVERLAYS:
        return render(DEPLOY / "overlays" / request.param)
    near = os.path.relpath(DEPLOY, tmp_path.resolve())
    shutil.copy(DEPLOY / "overlays" / "gke-t4" / "nodes.yaml", tmp_path)
    targets = ({"kind": "Deployment", "name": "pem-server"}, {"kind": "Job"})
    kustomization = {
        "resources": [f"{near}/base"],
        "components": [f"{near}/components/{name}" for name in request.param.split("+")],
        "patches": [{"path": "nodes.yaml", "target": target} for target in targets],
    }
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return render(tmp_path.resolve())


@pytest.fixture
def gke() -> Documents:
    """The manifests of one overlay, to be broken at will."""
    return render(DEPLOY / "overlays" / "gke-t4")


def _stages() -> dict[str, list[tuple[str, str]]]:
    """The instructions of every stage of the Dockerfile: (word, rest), continued lines joined."""
    text = (ROOT / "Dockerfile").read_text()
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    stages: dict[str, list[tuple[str, str]]] = {}
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        word, _, rest = line.strip().partition(" ")
        if word == "FROM":
            stage = stages[rest.rpartition(" AS ")[2]] = []
        stage.append((word, " ".join(rest.split())))
    return stages


STAGES = _stages()
COMMANDS = {n: json.loads(rest) for n, s in STAGES.items() for word, rest in s if word == "CMD"}


def get(url: str) -> tuple[int, str]:
    """Status and body of the answer; 0 where there is none."""
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError:
        return 0, ""
