"""`./run bench` without a verb, and the verbs that serve."""

import argparse
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from pem_bench import cli, end_to_end, everything, peers, share, sweep
from pem_bench.report import write_json


@pytest.mark.parametrize("arguments", [[], ["--quick"], ["everything"]])
def test_without_a_verb_everything_is_measured(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    seen: list[argparse.Namespace] = []
    monkeypatch.setattr(everything, "run", seen.append)
    assert cli.main(arguments) == 0
    assert [options.quick for options in seen] == ["--quick" in arguments]


def test_everything_runs_each_part_and_gathers_what_they_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def good(options: argparse.Namespace) -> None:
        print("the numbers")
        print(write_json(options.output / "end-to-end.json", {"rows": [], "systems": {}}))
        (options.output / "end-to-end.png").write_bytes(b"plot")

    def bad(options: argparse.Namespace) -> None:
        raise cli.BenchError("it cannot be had")

    modules = {"pem_bench.end_to_end": good, "pem_bench.memory": bad}
    monkeypatch.setattr(everything, "NORMAL", {"end-to-end": [], "memory": []})
    monkeypatch.setattr(
        everything,
        "import_module",
        lambda name: SimpleNamespace(
            run=modules[name], add_arguments=end_to_end.add_common_arguments, __doc__=""
        ),
    )
    (tmp_path / "memory.json").write_text("{}")  # of another run
    assert cli.main(["--output", str(tmp_path)]) == 0
    report = (tmp_path / "report.md").read_text()
    assert "```\nthe numbers\n```" in report
    assert "![end-to-end.png](end-to-end.png)" in report
    assert "Not measured: it cannot be had" in report
    content = json.loads((tmp_path / "report.json").read_text())
    assert set(content) == {"machine", "end-to-end", "losses"}
    assert "Where we lose" in capsys.readouterr().out


@pytest.mark.parametrize("settings", [everything.NORMAL, everything.QUICK])
def test_the_settings_of_every_part_are_options_it_has(settings: dict[str, list[str]]) -> None:
    for verb, arguments in settings.items():
        module = everything.import_module(cli.VERBS[verb][0])
        cli.parser_of(verb, module).parse_args(arguments)


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [
        (end_to_end, ["end-to-end", "--rounds", "0"]),
        (share, ["share", "--turn-seconds", "0"]),
        (sweep, ["sweep", "--try", "threads=1"]),
        (peers, ["peers", "--image", "absent.jpg"]),
    ],
)
def test_what_cannot_be_done_is_one_line(
    verb: object, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == 1
    output = capsys.readouterr()
    assert (output.out, output.err.count("\n")) == ("", 1)
    assert output.err.startswith(f"bench {arguments[0]}: ")
