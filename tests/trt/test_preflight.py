"""The table of everything that keeps the server from starting."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pemtrt import gpu_info, preflight
from pemtrt.gpu_info import Gpu, Machine
from pemtrt.manifest import (
    Manifest,
    Profile,
    Tensor,
    install,
    manifest_path,
    read_manifest,
    to_json,
)

ENGINE = b"an engine"
ENGINE_PATH = "pem_network/1/model.plan"


@pytest.fixture
def repository(tmp_path: Path, root: Path) -> Path:
    """The project's own configurations and labels, with an engine that fits."""
    folder = tmp_path / "model_repository"
    shutil.copytree(
        root / "model_repository",
        folder,
        ignore=shutil.ignore_patterns("*.onnx", "*.plan*", "*.py", "warmup", "__pycache__"),
    )
    install(ENGINE, fitting(folder), folder / ENGINE_PATH)
    return folder


def fitting(repository: Path) -> Manifest:
    labels = repository / "pem_postprocess" / "labels.txt"
    in_and_out = {
        "image": ("TYPE_UINT8", [-1, 640, 640, 3]),
        "class_ids": ("TYPE_INT32", [-1, 100]),
        "scores": ("TYPE_FP32", [-1, 100]),
        "masks": ("TYPE_UINT8", [-1, 640, 640]),
    }
    return Manifest(
        tensorrt="10.16.1.11",
        capability="7.5",
        gpu="Tesla T4",
        driver="580.95.05",
        engine_bytes=len(ENGINE),
        engine_sha256=hashlib.sha256(ENGINE).hexdigest(),
        onnx_sha256="0" * 64,
        onnx_types=["FP16", "FP32", "INT64", "UINT8"],
        precision="fp16",
        profile=Profile(1, 4, 8),
        tensors=[Tensor(name, name == "image", *rest) for name, rest in in_and_out.items()],
        class_names=labels.read_text().splitlines(),
        activation_bytes=1,
        options={"workspace_bytes": 1, "optimization_level": 3},
        built_at="2026-11-22T21:00:00+00:00",
        build_seconds=300.0,
    )


@pytest.fixture
def check(
    repository: Path, t4: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> Callable[..., tuple[int, list[str]]]:
    """Run the command on a T4; its exit code, and the lines of stderr."""
    monkeypatch.setattr(gpu_info, "this_machine", lambda backend: t4)

    def run(*more: str, config: str = "t4") -> tuple[int, list[str]]:
        words = ["--repository", str(repository), "--config-name", config, *more]
        code = preflight.main(words)
        return code, capsys.readouterr().err.splitlines()

    return run


def edit(repository: Path, **changes: object) -> None:
    path = manifest_path(repository / ENGINE_PATH)
    path.write_text(to_json(replace(read_manifest(path), **changes)))


def test_the_command_runs_if_everything_fits(
    check: Callable, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(os, "execvp", lambda file, words: started.append([file, *words]))
    server = ["tritonserver", "--model-repository=/models"]
    assert check("--", *server) == (0, [])
    assert started == [["tritonserver", *server]]
    edit(repository, capability="8.6")
    assert check("--", *server)[0] == 1
    assert len(started) == 1


WRONG_MANIFEST = [
    ({"tensorrt": "10.16.1.12"}, ["10.16.1.12", "10.16.1.11"]),
    ({"capability": "8.6"}, ["8.6", "GPU 0", "Tesla T4", "7.5"]),
    ({"gpu": "NVIDIA GeForce RTX 2080"}, ["NVIDIA GeForce RTX 2080", "GPU 0", "Tesla T4"]),
    ({"driver": "570.1"}, ["570.1", "580.95.05", "--accept-driver"]),
    ({"engine_bytes": 10}, ["10", "9 bytes"]),
    ({"engine_sha256": "0" * 64}, ["checksum"]),
    ({"onnx_types": ["BF16"]}, ["BF16", "8.0", "7.5", "--precision"]),
    ({"profile": Profile(1, 4, 4)}, ["1 to 8", "1 to 4", "--max-batch 8"]),
    ({"profile": Profile(2, 4, 8)}, ["1 to 8", "2 to 8"]),
    ({"class_names": ["wall"]}, ["labels.txt"]),
    ({"tensors": []}, ["inputs image", "nothing"]),
]
WRONG_CONFIGURATION = [
    (('name: "masks"', 'name: "mask"'), ["class_ids, scores, mask, but"]),
    (("TYPE_INT32", "TYPE_INT64"), ["TYPE_INT64 [-1, 100] for output class_ids"]),
    (("max_batch_size: 8", "max_batch_size: 16"), ["batches of 1 to 16"]),
    (("batch_size: 8 input", "batch_size: 12 input"), ["graph_spec"]),
    (('"model.plan"', '"x"'), ["/x is missing"]),
    (("max_batch_size: 8", "max_batch_size {"), ["t4.pbtxt"]),
]


@pytest.mark.parametrize(("change", "words"), [*WRONG_MANIFEST, *WRONG_CONFIGURATION])
def test_what_does_not_fit_is_refused(
    check: Callable, repository: Path, change: dict[str, object] | tuple[str, str], words: list[str]
) -> None:
    if isinstance(change, dict):
        edit(repository, **change)
    else:
        path = repository / "pem_network" / "configs" / "t4.pbtxt"
        assert change[0] in path.read_text()
        path.write_text(path.read_text().replace(*change, 1))

    code, lines = check()
    assert code == 1
    assert lines[0].startswith("preflight: ")
    assert [word for word in words if word not in lines[0]] == []


@pytest.mark.parametrize(
    ("changes", "options", "problems"),
    [
        ({}, [], 0),
        ({"class_names": []}, [], 0),  # not compared with the labels
        ({"driver": "570.1"}, ["--accept-driver"], 0),
        ({"tensorrt": "10.9.0.34", "driver": "570.1"}, [], 2),
    ],
)
def test_every_problem_has_its_own_line(
    check: Callable, repository: Path, changes: dict[str, object], options: list[str], problems: int
) -> None:
    edit(repository, **changes)
    code, lines = check(*options)
    assert (code, len(lines)) == (int(problems > 0), problems)


def test_the_engine_and_its_manifest_must_be_there(check: Callable, repository: Path) -> None:
    manifest_path(repository / ENGINE_PATH).unlink()
    assert "manifest" in check()[1][0]
    (repository / ENGINE_PATH).unlink()
    assert "./run engine" in check()[1][0]
    (repository / "pem_network" / "10").mkdir()  # of several versions, the highest
    code, lines = check()
    assert (code, len(lines)) == (1, 1)
    assert "pem_network/10/model.plan is missing" in lines[0]


@pytest.mark.parametrize(
    "content", ["", "[]", '{"format": 1}', {"more": 1}, {"format": 2}, {"profile": "other"}]
)
def test_a_file_that_is_no_manifest_is_refused(
    check: Callable, repository: Path, content: str | dict
) -> None:
    path = manifest_path(repository / ENGINE_PATH)
    if isinstance(content, dict):
        content = json.dumps(json.loads(path.read_text()) | content)
    path.write_text(content)
    code, lines = check()
    assert (code, len(lines)) == (1, 1)
    assert "model.plan.json" in lines[0]


def test_every_visible_gpu_must_fit(
    check: Callable, t4: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = replace(t4, gpus=(*t4.gpus, Gpu("NVIDIA L4", "8.9")))
    monkeypatch.setattr(gpu_info, "this_machine", lambda backend: both)
    _, lines = check()
    assert "GPU 1 is NVIDIA L4 with compute capability 8.9" in lines[0]
    assert "CUDA_VISIBLE_DEVICES" in lines[0]


def test_a_repository_or_a_configuration_that_is_not_there_is_refused(
    check: Callable, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, lines = check(config="t5")
    assert (code, "configs/t5.pbtxt" in lines[0]) == (1, True)
    assert preflight.main(["--repository", str(tmp_path / "absent")]) == 1
    assert "--repository" in capsys.readouterr().err


def test_it_runs_without_torch_onnx_and_the_network(repository: Path) -> None:
    """The serving image has none of them."""
    heavy = "{'torch', 'onnx', 'onnxruntime', 'pemseg', 'pem_client', 'PIL'}"
    code = "import sys; from pemtrt import preflight; print(preflight.main(sys.argv[1:]), "
    code += f"{heavy} & set(sys.modules))"
    command = [sys.executable, "-c", code, "--repository", repository]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("TensorRT engine\n0 set()\n")
