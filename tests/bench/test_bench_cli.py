"""The commands of `./run bench`, their old names, and the report of all of them."""

import argparse
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from pem_bench import cli, end_to_end, run_all
from pem_bench.bench_report import publish


@pytest.mark.parametrize("arguments", [[], ["--quick"], ["all"], ["everything"]])
def test_without_a_command_everything_is_measured(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    seen: list[argparse.Namespace] = []
    monkeypatch.setattr(run_all, "run", seen.append)
    assert cli.main(arguments) == 0
    assert [options.quick for options in seen] == ["--quick" in arguments]


def test_an_unknown_command_gets_the_list_of_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["nothing"]) == 2
    text = capsys.readouterr().err
    assert all(f"./run bench {command}" in text for command in cli.COMMANDS)


@pytest.mark.parametrize("old", cli.OLD_COMMANDS)
def test_a_command_of_0_1_still_runs_with_a_warning(
    old: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    new = cli.OLD_COMMANDS[old]
    module = cli.import_module(cli.COMMANDS[new[0]][0])
    seen: list[argparse.Namespace] = []
    monkeypatch.setattr(module, "run", seen.append)
    image = [] if new == [cli.ALL] else ["--picture", "a.jpg"]
    assert cli.main([old, *image]) == 0
    assert image == [] or seen[0].image == Path("a.jpg")
    assert f"bench {' '.join(new)}" in capsys.readouterr().err


def test_all_runs_each_part_and_gathers_the_results(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def good(options: argparse.Namespace) -> None:
        publish(options.output, "end-to-end", {"rows": [], "systems": {}}, "the numbers")

    def bad(options: argparse.Namespace) -> None:
        raise cli.BenchError("no server here")

    for command, arguments in (run_all.NORMAL | run_all.QUICK).items():
        module = cli.import_module(cli.COMMANDS[command][0])
        cli.parser_of(command, module).parse_args(arguments)
    modules = {"pem_bench.end_to_end": good, "pem_bench.memory": bad}
    monkeypatch.setattr(run_all, "NORMAL", {"end-to-end": [], "memory": []})
    monkeypatch.setattr(
        run_all,
        "import_module",
        lambda name: SimpleNamespace(
            run=modules[name], add_arguments=end_to_end.add_common_arguments, __doc__=""
        ),
    )
    (tmp_path / "memory.json").write_text("{}")  # of another run
    assert cli.main(["--output", str(tmp_path)]) == 0
    report = (tmp_path / "report.md").read_text()
    assert "```\nthe numbers\n```" in report
    assert report.index("no server here") < report.index("## Where we lose")
    content = json.loads((tmp_path / "report.json").read_text())
    assert set(content) == {"machine", "end-to-end", "losses"}
    assert "Where we lose" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "token"),
    [
        (["end-to-end", "--rounds", "0"], "rounds"),
        (["overhead", "--turn-seconds", "0"], "seconds"),
        (["memory", "--requests", "3"], "--requests"),
        (["steps", "--in-flight", "0"], "requests"),
        (["steps", "--image", "absent.jpg"], "absent.jpg"),
        (["end-to-end", "--image", "absent.jpg"], "absent.jpg"),
    ],
)
def test_a_user_error_is_one_line(
    arguments: list[str], token: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == 1
    output = capsys.readouterr()
    assert (output.out, output.err.count("\n")) == ("", 1)
    assert output.err.startswith(f"bench {arguments[0]}: ")
    assert token in output.err
