"""`./run engine`: what it prints, and what it says when something is wrong."""

from collections.abc import Callable
from pathlib import Path

import build_engine
import pytest

from pemtrt.engine_build import BuildPaths
from pemtrt.gpu_info import Machine
from pemtrt.manifest import manifest_path, read_manifest

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
    absent, text = (str(places.graph.with_name(name)) for name in ("absent.onnx", "text.onnx"))
    Path(text).write_text("no graph")
    options = [("--max-batch", "0"), ("--opt-batch", "9"), ("--workspace-gib", "0")]
    for option, value in [("--check", absent), ("--check", text), *options]:
        assert build_engine.main([option, value]) == 1
        output = capsys.readouterr()
        assert (output.out, output.err[:8], output.err.count("\n")) == ("", "engine: ", 1)
        assert (value if option == "--check" else option) in output.err


def test_an_interrupted_command_exits_with_130(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(build_engine, "make_engine", interrupted)
    assert build_engine.main([]) == 130
    assert "interrupted" in capsys.readouterr().err
