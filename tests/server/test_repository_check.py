"""Every fault of a repository that is known is one sentence with its remedy, before a start."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pem_server import checksums
from pem_server.checkout import MODEL_REPOSITORY
from pem_server.repository_check import repository_problems

GRAPH = checksums.GRAPH
GRAPH_BYTES = b"\x08\x08 a graph, as far as its first byte tells" + bytes(range(256)) * 40


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A copy with a small file for a graph, and checksums."""
    copy = tmp_path / "model_repository"
    leave_out = shutil.ignore_patterns("__pycache__", "*.onnx", "*.raw", "*.bytes")
    shutil.copytree(MODEL_REPOSITORY, copy, ignore=leave_out)
    (copy / GRAPH).write_bytes(GRAPH_BYTES)
    small = copy / "pem_network" / "configs" / "small.pbtxt"
    shutil.copy(copy / "pem_network" / "config.pbtxt", small)
    checksums.write(copy)
    return copy


def rewritten(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    """Change one file."""
    return lambda folder: (folder / name).write_bytes(change((folder / name).read_bytes()))


def removed(name: str) -> Callable[[Path], object]:
    """Remove a file or folder."""

    def remove(folder: Path) -> None:
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return remove


LABELS = "pem_postprocess/labels.txt"
ENSEMBLE = "fai-pem-m-ade"
# What was done, and what the sentence must name: the file or folder, the remedy.
FAULTS = {
    "no graph": (removed(GRAPH), [GRAPH, "./run export"]),
    "a graph that is a folder": (
        lambda folder: ((folder / GRAPH).unlink(), (folder / GRAPH).mkdir()),
        [GRAPH, "./run export"],
    ),
    "empty graph": (rewritten(GRAPH, lambda _: b""), [GRAPH, "./run export"]),
    "HTML for a graph": (rewritten(GRAPH, lambda _: b"<html>404"), [GRAPH, "./run export"]),
    "half a graph": (rewritten(GRAPH, lambda all_: all_[:5000]), [GRAPH, "sha256sum"]),
    "a graph without its end": (rewritten(GRAPH, lambda all_: all_[:-100]), [GRAPH, "sha256sum"]),
    "a graph with zeros": (
        rewritten(GRAPH, lambda all_: all_[:4000] + bytes(96) + all_[4096:]),
        [GRAPH, "./run export"],
    ),
    "half of the ranges": (
        rewritten(checksums.RANGES, lambda all_: all_[: len(all_) // 2]),
        [checksums.RANGES, "--calibration"],
    ),
    "other ranges": (
        rewritten(checksums.RANGES, lambda all_: all_.replace(b"0", b"1")),
        [checksums.RANGES, "sha256sum"],
    ),
    "no ranges": (removed(checksums.RANGES), [checksums.RANGES, "./run export"]),
    "labels one line short": (
        rewritten(LABELS, lambda all_: b"\n".join(all_.splitlines()[:-1])),
        [LABELS, "restore"],
    ),
    "no labels": (removed(LABELS), [LABELS, "restore"]),
    "a manifest of something else": (
        rewritten("CHECKSUMS", lambda _: b"<html>"),
        ["CHECKSUMS", "sha256sum"],
    ),
    "binary configuration": (
        rewritten("pem_preprocess/config.pbtxt", lambda _: bytes(range(256))),
        ["pem_preprocess/config.pbtxt", "git restore"],
    ),
    "half a configuration": (
        rewritten("pem_postprocess/config.pbtxt", lambda all_: all_[: len(all_) // 2]),
        ["pem_postprocess/config.pbtxt", "git restore"],
    ),
    "empty configuration": (
        rewritten("pem_preprocess/config.pbtxt", lambda _: b""),
        ["pem_preprocess/config.pbtxt", "git restore"],
    ),
    "no configuration": (removed("pem_render/config.pbtxt"), ["pem_render", "git restore"]),
    "no ensemble": (removed(ENSEMBLE), [ENSEMBLE, "git restore"]),
    "no version of the ensemble": (removed(f"{ENSEMBLE}/1"), [f"{ENSEMBLE}/1", "git restore"]),
    "a step of the ensemble is missing": (removed("pem_render"), ["pem_render", "git restore"]),
    "a step without model.py": (
        removed("pem_render/1/model.py"),
        ["pem_render/1/model.py", "git restore"],
    ),
    "a step without version": (
        removed("pem_postprocess/1"),
        ["pem_postprocess/1", "git restore"],
    ),
    "a foreign folder": (lambda folder: (folder / "new").mkdir(), ["new/config.pbtxt"]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_sentence_with_its_remedy(fault: str, repository: Path) -> None:
    break_it, words = FAULTS[fault]
    break_it(repository)
    (problem,) = repository_problems(repository)
    assert "\n" not in problem
    assert "Traceback" not in problem
    for word in words:
        assert word in problem


def test_a_complete_repository_has_no_problem(repository: Path) -> None:
    assert repository_problems(repository) == []
    assert repository_problems(repository, "small") == []


def test_the_checkout_has_the_checksums_of_its_files() -> None:
    listed = [line.split()[1] for line in (MODEL_REPOSITORY / "CHECKSUMS").read_text().splitlines()]
    assert listed == list(checksums.FILES)
    without_graph = not (MODEL_REPOSITORY / GRAPH).is_file()
    assert without_graph or repository_problems(MODEL_REPOSITORY) == []


def test_a_stub_network_needs_no_graph(repository: Path) -> None:
    (repository / GRAPH).unlink()
    assert repository_problems(repository, stub_network=True) == []
    shutil.rmtree(repository / "pem_render")
    assert len(repository_problems(repository, stub_network=True)) == 1


def test_a_folder_without_the_network_step_is_no_repository(tmp_path: Path) -> None:
    (problem,) = repository_problems(tmp_path / "absent")
    assert str(tmp_path / "absent") in problem
    assert "--repository" in problem


@pytest.mark.parametrize(
    ("config_name", "parts"), [("smal", ("smal,", "small, t4")), ("t4", ("tensorrt", "t4.pbtxt"))]
)
def test_a_configuration_that_is_absent_or_not_for_this_server_is_refused(
    repository: Path, config_name: str, parts: tuple[str, ...]
) -> None:
    (problem,) = repository_problems(repository, config_name)
    assert all(part in problem for part in parts)


def test_an_exported_graph_gets_its_checksum(repository: Path, tmp_path: Path) -> None:
    (repository / GRAPH).write_bytes(b"\x08another graph")
    (repository / checksums.RANGES).write_text(json.dumps({}))
    assert len(repository_problems(repository)) == 1
    checksums.graph_written(tmp_path / "elsewhere.onnx")
    assert len(repository_problems(repository)) == 1
    checksums.graph_written(repository / GRAPH)
    assert repository_problems(repository) == []


def test_a_repository_without_checksums_is_served_unchecked(repository: Path) -> None:
    (repository / "CHECKSUMS").unlink()
    (repository / GRAPH).write_bytes(GRAPH_BYTES[:-1])
    assert repository_problems(repository) == []
    checksums.graph_written(repository / GRAPH)
    assert not (repository / "CHECKSUMS").exists()
