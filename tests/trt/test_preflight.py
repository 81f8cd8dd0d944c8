"""The table of everything that keeps the server from starting, each with its sentence."""

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
from pemtrt.errors import EngineError
from pemtrt.gpu_info import Gpu, Machine
from pemtrt.install import place
from pemtrt.manifest import (
    Manifest,
    Profile,
    Tensor,
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
    place(ENGINE, fitting(folder), folder / "pem_network" / "1" / "model.plan")
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


def test_the_server_takes_its_place_if_all_fits(
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
    ({"tensorrt": "10.16.1.12"}, ["TensorRT 10.16.1.12, and the server has 10.16.1.11"]),
    ({"tensorrt": "11.4.0.5"}, ["TensorRT 11.4.0.5, and the server has 10.16.1.11"]),
    ({"capability": "8.6"}, ["compute capability 8.6, and GPU 0 (Tesla T4) has 7.5"]),
    ({"gpu": "NVIDIA GeForce RTX 2080"}, ["tuned on a NVIDIA GeForce RTX 2080, and GPU 0"]),
    ({"driver": "570.1"}, ["driver 570.1, and this machine has 580.95.05", "--accept-driver"]),
    ({"engine_bytes": 10}, ["must have the 10 bytes that its manifest states, and has 9"]),
    ({"engine_sha256": "0" * 64}, ["its checksum differs"]),
    ({"onnx_types": ["BF16"]}, ["computes in BF16, which needs compute capability 8.0, and the T"]),
    ({"onnx_types": ["FP8"]}, ["computes in FP8, which needs compute capability 8.9, and the Te"]),
    ({"onnx_types": ["FP4"]}, ["computes in FP4"]),
    ({"profile": Profile(1, 4, 4)}, ["batches of 1 to 8, and the engine's profile takes 1 to 4"]),
    ({"profile": Profile(2, 4, 8)}, ["batches of 1 to 8, and the engine's profile takes 2 to 8"]),
    ({"class_names": ["wall"]}, ["must list the 1 classes that the engine was built for"]),
    ({"tensors": []}, ["names the inputs image, and the engine has nothing"]),
]


@pytest.mark.parametrize(("changes", "said"), WRONG, ids=lambda value: str(value)[:40])
def test_a_manifest_that_does_not_fit_is_a_sentence(
    check: Callable, repository: Path, changes: dict[str, object], said: list[str]
) -> None:
    edit(repository, **changes)

    code, lines = check()
    assert code == 1
    assert lines
    for words in said:
        assert words in lines[0]
    assert lines[0].startswith("preflight: ")
    assert lines[0].endswith(".")


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('name: "masks"', 'name: "mask"', "names the outputs class_ids, scores, mask, and the"),
        ("TYPE_INT32", "TYPE_INT64", "output class_ids the type and dims TYPE_INT64 [-1, 100]"),
        ("dims: [ 640, 640 ] ", "dims: [ 320, 320 ] ", "masks the type and dims TYPE_UINT8 [-1, 3"),
        ("max_batch_size: 8", "max_batch_size: 16", "batches of 1 to 16"),
        ("batch_size: 8 input", "batch_size: 12 input", "CUDA graphs for batches of 12"),
        ('default_model_filename: "model.plan"', 'default_model_filename: "x"', "/x is missing"),
        ("max_batch_size: 8", "max_batch_size {", "must be in protobuf's text format"),
    ],
)
def test_a_configuration_that_does_not_fit_is_a_sentence(
    check: Callable, repository: Path, before: str, after: str, said: str
) -> None:
    path = repository / "pem_network" / "configs" / "t4.pbtxt"
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after, 1))

    code, lines = check()
    assert code == 1
    assert said in lines[0]


def test_a_graph_without_class_names_is_not_compared_with_the_labels(
    check: Callable, repository: Path
) -> None:
    edit(repository, class_names=[])

    assert check() == (0, [])


def test_every_reason_has_a_line_of_its_own(check: Callable, repository: Path) -> None:
    edit(repository, tensorrt="10.9.0.34", driver="570.1")

    assert len(check()[1]) == 2


def test_another_driver_can_be_accepted(check: Callable, repository: Path) -> None:
    edit(repository, driver="570.1")

    assert check("--accept-driver") == (0, [])


def test_the_engine_and_its_manifest_must_be_there(check: Callable, repository: Path) -> None:
    manifest_path(engine_of(repository)).unlink()
    assert "manifest" in check()[1][0]
    engine_of(repository).unlink()
    code, lines = check()
    assert (code, len(lines)) == (1, 1)
    assert "model.plan is missing: build it on this machine with ./run engine." in lines[0]


def test_of_several_versions_the_highest_is_checked(check: Callable, repository: Path) -> None:
    (repository / "pem_network" / "10").mkdir()

    assert "pem_network/10/model.plan is missing" in check()[1][0]


@pytest.mark.parametrize(
    "content",
    ["", "no JSON", "[]", "{}", '{"format": 1}', None, "format", "profile", "engine_bytes"],
)
def test_a_file_that_is_no_manifest_is_a_sentence(
    check: Callable, repository: Path, content: str | None
) -> None:
    path = manifest_path(engine_of(repository))
    facts = json.loads(path.read_text())
    if content in facts:
        facts[content] = "of another kind"
    path.write_text(json.dumps(facts | {"more": 1}) if content is None else content or "")
    if content in facts:
        path.write_text(json.dumps(facts))

    code, lines = check()
    assert (code, len(lines)) == (1, 1)
    assert "is no engine's manifest: " in lines[0]


def test_a_later_format_is_refused(check: Callable, repository: Path) -> None:
    edit(repository, format=2)

    assert "its format must be 1, and is 2" in check()[1][0]


def test_every_visible_gpu_must_fit(
    check: Callable, t4: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = replace(t4, gpus=(*t4.gpus, Gpu("NVIDIA L4", "8.9")))
    monkeypatch.setattr(gpu_info, "this_machine", lambda backend: both)

    code, lines = check()
    assert code == 1
    assert "GPU 1 (NVIDIA L4) has 8.9" in lines[0]
    assert "CUDA_VISIBLE_DEVICES" in lines[0]


def test_without_a_gpu_the_sentence_is_the_machines(
    check: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_here(backend: Path) -> Machine:
        raise EngineError("An engine needs an NVIDIA GPU.")

    monkeypatch.setattr(gpu_info, "this_machine", none_here)

    assert check() == (1, ["preflight: An engine needs an NVIDIA GPU."])


def test_a_configuration_name_that_no_model_has_is_refused(check: Callable) -> None:
    code, lines = check(config="t5")
    assert code == 1
    assert "configs/t5.pbtxt" in lines[0]


def test_a_configuration_without_engines_needs_no_gpu(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert preflight.main(["--repository", str(repository)]) == 0
    assert "no model of this configuration is a TensorRT engine" in capsys.readouterr().out


def test_a_repository_that_is_not_there_is_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert preflight.main(["--repository", str(tmp_path / "absent")]) == 1
    assert "absent is none" in capsys.readouterr().err


def test_it_needs_nothing_but_python(root: Path, repository: Path) -> None:
    """Neither torch nor pemseg, nor any other package: the serving image has none of them."""
    code = "import sys; sys.path.insert(0, sys.argv.pop(1)); from pemtrt import preflight; "
    code += "print(preflight.main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, root / "build", "--repository", repository],
        capture_output=True,
        text=True,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("TensorRT engine\n0\n")
