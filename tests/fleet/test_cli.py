"""The command line: its help, and options that cannot be."""

import pytest

from pem_fleet import cli


@pytest.mark.parametrize("verb", ["simulate", "fleet-test"])
def test_help_tells_the_options(verb, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main([verb, "--help"])
    assert ended.value.code == 0
    assert "--manifests" in capsys.readouterr().out


@pytest.mark.parametrize(
    "options",
    [
        ["simulate", "--rates", "10,0"],
        ["simulate", "--cost", "pem_network=0:0"],
        ["fleet-test", "--cost", "-1:5"],
        ["fleet-test", "--quicken", "fast"],
        [],
    ],
)
def test_wrong_options_end_with_2(options, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(options)
    assert ended.value.code == 2
    assert "usage" in capsys.readouterr().err


def test_a_cost_of_an_unknown_step_is_named(capsys):
    assert cli.main(["simulate", "--cost", "pem_render=0:5"]) == 1
    assert "not pem_render" in capsys.readouterr().err


def test_a_result_that_is_not_there_is_a_sentence(tmp_path, capsys):
    assert cli.main(["simulate", "--check", str(tmp_path / "report.json")]) == 1
    assert "report.json" in capsys.readouterr().err
