"""Changing a number in a copy of the repository."""

from pathlib import Path

import pytest

from pem_bench import sweep
from pem_bench.cli import BenchError
from pem_bench.configuration import altered_copy, changed, parse_changes, value_of

TEXT = """max_batch_size: 8
parameters {
  key: "threads"
  value { string_value: "0" }  # all cores
}
instance_group [ { kind: KIND_CPU count: 1 } ]
dynamic_batching { }
"""


@pytest.mark.parametrize(
    ("key", "line"),
    [
        ("max_batch_size", "max_batch_size: 3"),
        ("threads", '  value { string_value: "3" }  # all cores'),
        ("instances", "instance_group [ { kind: KIND_CPU count: 3 } ]"),
        ("delay_us", "dynamic_batching { max_queue_delay_microseconds: 3 }"),
    ],
)
def test_one_line_changes(key: str, line: str) -> None:
    before, after = TEXT.splitlines(), changed(TEXT, key, "3").splitlines()
    different = [new for old, new in zip(before, after, strict=True) if old != new]
    assert different == [line]


@pytest.mark.parametrize(
    ("text", "key"), [(TEXT, "colour"), (TEXT + TEXT, "instances"), (TEXT + TEXT, "delay_us")]
)
def test_what_does_not_stand_once_is_said(text: str, key: str) -> None:
    with pytest.raises(ValueError, match=f"{key} must stand once"):
        changed(text, key, "1")


def test_a_model_that_does_not_batch_can_be_made_to(root: Path, tmp_path: Path) -> None:
    name = "pem_network.delay_us"
    assert value_of(root / "model_repository", name) == "none"
    copy = altered_copy(root / "model_repository", tmp_path / "copy", {name: "0"})
    assert value_of(copy, name) == "0"


def test_every_candidate_of_the_sweep_finds_its_place(root: Path, tmp_path: Path) -> None:
    repository = root / "model_repository"
    for number, text in enumerate(sweep.CANDIDATES):
        changes = parse_changes(text)
        copy = altered_copy(repository, tmp_path / str(number), changes)
        assert {name: value_of(copy, name) for name in changes} == changes
        assert (copy / "pem_network" / "1" / "model.onnx").is_symlink()


def test_a_smaller_batch_is_the_ensembles_too(root: Path, tmp_path: Path) -> None:
    changes = {"pem_network.max_batch_size": "4"}
    copy = altered_copy(root / "model_repository", tmp_path / "copy", changes)
    assert value_of(copy, "fai-pem-m-ade.max_batch_size") == "4"
    assert value_of(copy, "pem_preprocess.max_batch_size") == "8"


@pytest.mark.parametrize(
    "changes", [{"pem_network.colour": "1"}, {"pem_nothing.instances": "1"}], ids=["key", "model"]
)
def test_a_change_without_a_place_is_an_error(
    root: Path, tmp_path: Path, changes: dict[str, str]
) -> None:
    with pytest.raises(BenchError, match=r"colour must stand once|there must be a model"):
        altered_copy(root / "model_repository", tmp_path / "copy", changes)


def test_changes_are_written_with_commas() -> None:
    assert parse_changes("a.b=1, c.d=x") == {"a.b": "1", "c.d": "x"}
    for wrong in ("a=1", "a.b", "a.b=", "a.b.c=1"):
        with pytest.raises(BenchError, match=r"MODEL\.KEY=VALUE"):
            parse_changes(wrong)
