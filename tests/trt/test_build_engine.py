"""`./run engine`: what it prints, and what it says when something is wrong."""

from collections.abc import Callable

import build_engine
import pytest

from pemtrt.build_options import BuildOptions
from pemtrt.engine_build import BuildPaths
from pemtrt.gpu_info import Machine
from pemtrt.manifest import EngineError, Profile, manifest_path, read_manifest

Capture = pytest.CaptureFixture[str]


def test_the_command_builds_and_prints_the_path(
    places: BuildPaths, on: Callable, t4: Machine, capsys: Capture
) -> None:
    on(t4)
    words = "--onnx graph --output target --config config --timing-caches timing_caches"
    words += " --report report --backend backend"
    flat = [str(getattr(places, word, word)) for word in words.split()] + ["--opt-batch", "8"]
    assert build_engine.main(flat) == 0
    assert capsys.readouterr().out == f"{places.target}\n"
    assert read_manifest(manifest_path(places.target)).profile.best == 8


def test_the_command_says_in_one_line_what_is_wrong(places: BuildPaths, capsys: Capture) -> None:
    places.graph.with_name("text.onnx").write_text("no graph")
    for name in ("absent.onnx", "text.onnx"):
        assert build_engine.main(["--check", str(places.graph.with_name(name))]) == 1
    assert build_engine.main(["--max-batch", "0"]) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert [line[:8] for line in output.err.splitlines()] == ["engine: "] * 3


def test_an_interrupted_command_exits_with_130(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(build_engine, "make_engine", interrupted)
    assert build_engine.main([]) == 130
    assert "interrupted" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("wrong", "option"),
    [
        ({"profile": Profile(2, 1, 8)}, "--opt-batch"),
        ({"optimization_level": 6}, "--optimization-level"),
        ({"workspace_bytes": 0}, "--workspace-gib"),
    ],
)
def test_wrong_options_are_refused_by_their_names(wrong: dict, option: str) -> None:
    with pytest.raises(EngineError, match=option):
        BuildOptions(**wrong)
