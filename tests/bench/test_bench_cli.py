"""The commands of `./run bench`, their old names, and the report of all of them."""

import argparse
import json
from pathlib import Path
from unittest.mock import Mock

import pytest

from pem_bench import cli, end_to_end, memory, run_all
from pem_bench.bench_report import publish


@pytest.mark.parametrize("arguments", [[], ["--quick"], ["all"], ["everything"]])
def test_no_command_measures_all(monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    run = Mock()
    monkeypatch.setattr(run_all, "run", run)
    assert cli.main(arguments) == 0
    assert run.call_args.args[0].quick == ("--quick" in arguments)


def test_an_unknown_command_gets_the_list_of_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["nothing"]) == 2
    text = capsys.readouterr().err
    assert all(f"./run bench {command}" in text for command in cli.COMMANDS)


@pytest.mark.parametrize("old", cli.OLD_COMMANDS)
def test_a_command_of_0_1_still_runs_with_a_warning(
    old: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    new = cli.OLD_COMMANDS[old]
    run = Mock()
    monkeypatch.setattr(cli.import_module(cli.COMMANDS[new[0]][0]), "run", run)
    image = [] if new == [cli.ALL] else ["--picture", "a.jpg"]
    assert cli.main([old, *image]) == 0
    assert image == [] or run.call_args.args[0].image == Path("a.jpg")
    assert f"bench {' '.join(new)}" in capsys.readouterr().err


def test_all_runs_each_part_and_gathers_the_results(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def good(options: argparse.Namespace) -> None:
        publish(options.output, "end-to-end", {"rows": [], "systems": {}}, "the numbers")
        (options.output / "end-to-end.png").touch()

    monkeypatch.setattr(end_to_end, "run", good)
    monkeypatch.setattr(memory, "run", Mock(side_effect=cli.BenchError("no server here")))
    for name in ("memory.json", "memory.png"):  # of another run
        (tmp_path / name).write_text("{}")
    skipped = ["--skip", "engine", "steps", "share"]
    assert cli.main(["--output", str(tmp_path), *skipped]) == 0
    report = (tmp_path / "report.md").read_text()
    assert "```\nthe numbers\n```" in report
    assert "(end-to-end.png)" in report
    assert "memory.png" not in report
    assert report.index("no server here") < report.index("## Where we lose")
    content = json.loads((tmp_path / "report.json").read_text())
    assert set(content) == {"machine", "end-to-end", "losses"}
    output = capsys.readouterr()
    assert "Where we lose" in output.out
    assert "bench share is now bench overhead" in output.err


@pytest.mark.parametrize("settings", [run_all.NORMAL, run_all.QUICK])
def test_every_part_accepts_its_options(settings: dict[str, list[str]]) -> None:
    for command, arguments in settings.items():
        module = cli.import_module(cli.COMMANDS[command][0])
        cli.parser_of(command, module).parse_args(arguments)


@pytest.mark.parametrize(
    ("arguments", "token"),
    [
        ("engine --rounds 0", "rounds"),
        ("engine --only npu", "npu"),
        (f"engine --graph {__file__}", "ONNX"),
        ("engine --image absent.jpg", "absent.jpg"),
        ("end-to-end --rounds 0", "rounds"),
        ("overhead --turn-seconds 0", "seconds"),
        ("memory --requests 3", "--requests"),
        ("steps --in-flight 0", "requests"),
        ("steps --image absent.jpg", "absent.jpg"),
    ],
)
def test_a_user_error_is_one_line_and_writes_nothing(
    arguments: str, token: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*arguments.split(), "--output", str(tmp_path / "out")]) == 1
    assert not (tmp_path / "out").exists()
    output = capsys.readouterr()
    assert (output.out, output.err.count("\n")) == ("", 1)
    assert output.err.startswith(f"bench {arguments.split()[0]}: ")
    assert token in output.err
