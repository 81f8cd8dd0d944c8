"""The table of everything that keeps the server from starting."""

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
    EngineError,
    Manifest,
    Profile,
    Tensor,
    install,
    manifest_path,
    read_manifest,
    sha256,
    to_json,
)

ENGINE = b"an engine"


@pytest.fixture
def repository(tmp_path: Path, root: Path) -> Path:
    """The project's own configurations and labels, with an engine that fits."""
    folder = tmp_path / "model_repository"
    shutil.copytree(
        root / "model_repository",
        folder,
        ignore=shutil.ignore_patterns("*.onnx", "*.plan*", "*.py", "warmup", "__pycache__"),
    )
    install(ENGINE, fitting(folder), folder / "pem_network" / "1" / "model.plan")
    return folder


def fitting(repository: Path) -> Manifest:
    labels = repository / "pem_postprocess" / "labels.txt"
    engine = repository.parent / "engine"
    engine.write_bytes(ENGINE)
    return Manifest(
        tensorrt="10.16.1.11",
        capability="7.5",
        gpu="Tesla T4",
        driver="580.95.05",
        engine_bytes=len(ENGINE),
        engine_sha256=sha256(engine),
        onnx_sha256="0" * 64,
        onnx_types=["FP16", "FP32", "INT64", "UINT8"],
        precision="fp16",
        profile=Profile(1, 4, 8),
        tensors=[
            Tensor("image", True, "TYPE_UINT8", [-1, 640, 640, 3]),
            Tensor("class_ids", False, "TYPE_INT32", [-1, 100]),
            Tensor("scores", False, "TYPE_FP32", [-1, 100]),
            Tensor("masks", False, "TYPE_UINT8", [-1, 640, 640]),
        ],
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


def engine_of(repository: Path) -> Path:
    return repository / "pem_network" / "1" / "model.plan"


def edit(repository: Path, **changes: object) -> None:
    path = manifest_path(engine_of(repository))
    path.write_text(to_json(replace(read_manifest(path), **changes)))


def test_an_engine_that_fits_may_start(check: Callable) -> None:
    assert check() == (0, [])


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


WRONG = [
    ({"tensorrt": "10.16.1.12"}, ["10.16.1.12", "10.16.1.11"]),
    ({"tensorrt": "11.4.0.5"}, ["11.4.0.5", "10.16.1.11"]),
    ({"capability": "8.6"}, ["8.6", "GPU 0", "Tesla T4", "7.5"]),
    ({"gpu": "NVIDIA GeForce RTX 2080"}, ["NVIDIA GeForce RTX 2080", "GPU 0", "Tesla T4"]),
    ({"driver": "570.1"}, ["570.1", "580.95.05", "--accept-driver"]),
    ({"engine_bytes": 10}, ["10", "9 bytes"]),
    ({"engine_sha256": "0" * 64}, ["checksum"]),
    ({"onnx_types": ["BF16"]}, ["BF16", "8.0", "7.5", "--precision"]),
    ({"onnx_types": ["FP8"]}, ["FP8", "8.9"]),
    ({"onnx_types": ["FP4"]}, ["FP4"]),
    ({"profile": Profile(1, 4, 4)}, ["1 to 8", "1 to 4", "--max-batch 8"]),
    ({"profile": Profile(2, 4, 8)}, ["1 to 8", "2 to 8"]),
    ({"class_names": ["wall"]}, ["labels.txt"]),
    ({"tensors": []}, ["inputs image", "nothing"]),
]


@pytest.mark.parametrize(("changes", "words"), WRONG, ids=lambda value: str(value)[:40])
def test_a_manifest_that_does_not_fit_is_refused(
    check: Callable, repository: Path, changes: dict[str, object], words: list[str]
) -> None:
    edit(repository, **changes)

    code, lines = check()
    assert code == 1
    assert lines[0].startswith("preflight: ")
    for word in words:
        assert word in lines[0]


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ('name: "masks"', 'name: "mask"', "class_ids, scores, mask, but"),
        ("TYPE_INT32", "TYPE_INT64", "TYPE_INT64 [-1, 100] for output class_ids"),
        (
            "dims: [ 640, 640 ] ",
            "dims: [ 320, 320 ] ",
            "TYPE_UINT8 [-1, 320, 320]",
        ),
        ("max_batch_size: 8", "max_batch_size: 16", "batches of 1 to 16"),
        ("batch_size: 8 input", "batch_size: 12 input", "graph_spec"),
        ('default_model_filename: "model.plan"', 'default_model_filename: "x"', "/x is missing"),
        ("max_batch_size: 8", "max_batch_size {", "t4.pbtxt"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(
    check: Callable, repository: Path, before: str, after: str, words: str
) -> None:
    path = repository / "pem_network" / "configs" / "t4.pbtxt"
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after, 1))

    code, lines = check()
    assert code == 1
    assert words in lines[0]


@pytest.mark.parametrize(
    ("changes", "options", "problems"),
    [
        ({"class_names": []}, [], 0),  # not compared with the labels
        ({"driver": "570.1"}, ["--accept-driver"], 0),
        ({"tensorrt": "10.9.0.34", "driver": "570.1"}, [], 2),
    ],
)
def test_every_problem_has_its_own_line(
    check: Callable,
    repository: Path,
    changes: dict[str, object],
    options: list[str],
    problems: int,
) -> None:
    edit(repository, **changes)

    code, lines = check(*options)
    assert (code, len(lines)) == (int(problems > 0), problems)


def test_the_engine_and_its_manifest_must_be_there(check: Callable, repository: Path) -> None:
    manifest_path(engine_of(repository)).unlink()
    assert "manifest" in check()[1][0]
    engine_of(repository).unlink()
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
    path = manifest_path(engine_of(repository))
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

    code, lines = check()
    assert code == 1
    assert "GPU 1 is NVIDIA L4 with compute capability 8.9" in lines[0]
    assert "CUDA_VISIBLE_DEVICES" in lines[0]


def test_a_machine_without_a_gpu_is_one_line(
    check: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_here(backend: Path) -> Machine:
        raise EngineError("no GPU")

    monkeypatch.setattr(gpu_info, "this_machine", none_here)
    assert check() == (1, ["preflight: no GPU"])


def test_a_repository_or_a_configuration_that_is_not_there_is_refused(
    check: Callable, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, lines = check(config="t5")
    assert code == 1
    assert "configs/t5.pbtxt" in lines[0]
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
