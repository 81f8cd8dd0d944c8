"""The command line: its help, `simulate`, and options that cannot be."""

import json

import pytest

from pem_fleet import cli


@pytest.mark.parametrize("command", ["simulate", "fleet-test"])
def test_help_lists_the_options(command, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main([command, "--help"])
    assert ended.value.code == 0
    assert "--output" in capsys.readouterr().out


@pytest.mark.parametrize(
    "options",
    [
        ["simulate", "--rates", "10,0"],  # sized fleets in 0.1
        ["simulate", "--manifests", "x"],
        ["simulate", "--cost", "pem_network=0:0"],
        ["fleet-test", "--cost", "-1:5"],
        ["fleet-test", "--time-scale", "fast"],
        [],
    ],
)
def test_wrong_options_end_with_2(options, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(options)
    assert ended.value.code == 2
    assert "usage" in capsys.readouterr().err


def test_the_old_name_of_the_time_scale_is_accepted_with_a_warning(capsys):
    with pytest.raises(SystemExit):
        cli.main(["fleet-test", "--quicken", "fast"])
    told = capsys.readouterr().err
    assert "--quicken is now --time-scale" in told
    assert "invalid float value: 'fast'" in told


def test_simulate_writes_capacity_and_loads(tmp_path, capsys):
    costs = ["pem_preprocess=0:1", "pem_network=0:100", "pem_postprocess=0:1"]
    options = [word for cost in costs for word in ("--cost", cost)]
    assert cli.main(["simulate", "--goal", "500", "--output", str(tmp_path), *options]) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert 3 < report["capacity_images_per_second"] < 10
    loads = {row["load"]: row for row in report["loads"]}
    assert loads[0.25]["p50 ms"] >= 100
    assert loads[1.25]["pending"] > loads[0.25]["pending"]
    assert "capacity" in capsys.readouterr().out


def test_a_goal_that_no_rate_meets_names_its_option(capsys):
    assert cli.main(["simulate", "--goal", "1"]) == 1
    assert "--goal" in capsys.readouterr().err


def test_a_cost_of_an_unknown_step_is_named(capsys):
    assert cli.main(["simulate", "--cost", "pem_render=0:5"]) == 1
    assert "not pem_render" in capsys.readouterr().err


def test_a_result_that_is_not_there_is_a_sentence(tmp_path, capsys):
    assert cli.main(["simulate", "--check", str(tmp_path / "report.json")]) == 1
    assert "report.json" in capsys.readouterr().err
