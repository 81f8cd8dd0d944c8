"""Every command and every snippet of the README runs as it stands there."""

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pem_client import Detections
from pem_server import TritonServer
from pem_training.scenes import write_scenes

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
CHECKPOINT = "build/weights/street-scenes.safetensors"  # any checkpoint will do


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    """The shell lines of the README without their comments."""
    lines = (
        line.partition("  #")[0].strip() for block in blocks("sh") for line in block.splitlines()
    )
    return [line for line in lines if line]


@pytest.fixture
def folder(root: Path, tmp_path: Path) -> Path:
    """A user's own folder with a picture."""
    shutil.copy(root / "docs" / "street.jpg", tmp_path / "photo.jpg")
    return tmp_path


def run(root: Path, folder: Path, command: str, **replaced: str) -> str:
    """Run a README line from `folder`, with words replaced; returns its standard output."""
    words = [replaced.get(word, word) for word in shlex.split(command)]
    assert words[0] == "./run"
    done = subprocess.run(
        [root / "run", *words[1:]], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_demo_shows_what_the_readme_says(root: Path, folder: Path) -> None:
    assert {"./run demo", "./run demo photo.jpg"} <= set(commands())
    for command in ("./run demo", "./run demo photo.jpg"):
        output = run(root, folder, command)
        for word in ("sky", "building", "road", "preprocess", "round trip"):
            assert word in output
        overlay = re.search(r"^overlay +(.*)$", output, re.MULTILINE)
        assert overlay
        assert (folder / overlay[1]).is_file()


@contextlib.contextmanager
def served(root: Path) -> Iterator[dict[str, str]]:
    """`./run serve` on free ports; the addresses it prints. Ended by Ctrl-C."""
    free = ("--http-port=0", "--grpc-port=0", "--metrics-port=0")
    command = [root / "run", "serve", *free]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout
        try:
            addresses = {}
            for line in process.stdout:
                name, *values = line.split() or [""]
                addresses[name] = values[-1] if values else ""
                if name == "stop":
                    break
            yield addresses
        finally:
            os.killpg(process.pid, signal.SIGINT)
    assert process.returncode == 0


def test_pictures_are_segmented_by_the_server_that_runs(root: Path, folder: Path) -> None:
    overlay = "./run segment photo.jpg --overlay overlay.png"
    as_json = "./run segment --json --url http://127.0.0.1:8000 photo.jpg"
    assert {"./run serve", overlay, as_json} <= set(commands())
    with served(root) as addresses:
        assert "road" in run(root, folder, f"{overlay} --url {addresses['gRPC']}")
        assert (folder / "overlay.png").is_file()
        url = {"http://127.0.0.1:8000": addresses["HTTP"]}
        assert len(Detections.from_json(run(root, folder, as_json, **url))) > 3


def test_weights_become_the_graph_that_is_served(root: Path, folder: Path) -> None:
    into = "./run import-weights checkpoint.pth --output my.safetensors"
    export = "./run export --weights my.safetensors"
    assert {into, export} <= set(commands())
    run(root, folder, into, **{"checkpoint.pth": str(root / CHECKPOINT)})
    assert run(root, folder, f"{export} --output model.onnx") == "model.onnx\n"
    committed = root / "model_repository" / "pem_network" / "1" / "model.onnx"
    assert (folder / "model.onnx").stat().st_size == committed.stat().st_size


def test_a_folder_is_measured_and_learnt_from(
    root: Path, folder: Path, server: TritonServer
) -> None:
    evaluate = "./run evaluate --data FOLDER --model grpc://127.0.0.1:8001"
    train = "./run train --data FOLDER --output artifacts/training"
    assert {evaluate, train} <= set(commands())
    for split in ("training", "validation"):
        write_scenes(folder / "drawn", split, count=2, seed=36)
    words = {"FOLDER": "drawn", "grpc://127.0.0.1:8001": f"grpc://{server.grpc_url}"}
    assert "pixel accuracy" in run(root, folder, evaluate, **words)
    short = "--steps 1 --batch 2 --crop 64 --eval-every 0 --precision float32"
    run(root, folder, f"{train} {short}", **words)
    assert (folder / "artifacts" / "training" / "checkpoint.pth").is_file()


def test_no_other_commands_stand_in_the_readme() -> None:
    verbs = [shlex.split(command)[1] for command in commands()]
    known = ["demo", "evaluate", "export", "import-weights", "segment", "serve", "train"]
    assert sorted(set(verbs)) == known
    assert len(commands()) == 9


@pytest.mark.parametrize("snippet", blocks("python"))
def test_a_snippet_finds_the_street(
    root: Path, server: TritonServer, tmp_path: Path, snippet: str
) -> None:
    code = re.sub(r"127\.0\.0\.1:8001", server.grpc_url, snippet)
    code = code.replace("docs/street.jpg", str(root / "docs" / "street.jpg"))
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "sky" in done.stdout


def test_every_folder_of_the_project_is_in_the_tree(root: Path) -> None:
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=root, capture_output=True, text=True, check=True
    ).stdout
    folders = {line.split("/")[0] for line in tracked.splitlines() if "/" in line}
    for folder in sorted(folders - {".ci"}):
        assert f"\n{folder}/ " in README, f"{folder}/ is missing in the README's tree"
