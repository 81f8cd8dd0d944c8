"""The command line: `simulate`, and options that cannot be."""

import json

import pytest

from pem_fleet import cli


@pytest.mark.parametrize(
    "options",
    [
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
    printed = capsys.readouterr().err
    assert "--quicken is now --time-scale" in printed
    assert "invalid float value: 'fast'" in printed


def test_simulate_writes_capacity_and_loads(tmp_path, capsys):
    costs = ["pem_preprocess=0:1", "pem_network=0:100", "pem_postprocess=0:1"]
    options = [word for cost in costs for word in ("--cost", cost)]
    assert cli.main(["simulate", "--goal", "500", "--output", str(tmp_path), *options]) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert 3 < report["capacity_images_per_second"] < 10
    loads = {row["load"]: row for row in report["loads"]}
    assert loads[0.25]["p50 ms"] >= 100
    assert loads[1.25]["p99 ms"] > loads[0.25]["p99 ms"]
    assert "capacity" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--goal", "1"], "--goal"),  # no rate meets it
        (["--cost", "pem_render=0:5"], "not pem_render"),
        (["--check", "none/report.json"], "none/report.json"),
    ],
)
def test_what_cannot_be_simulated_is_a_sentence(options, named, capsys):
    assert cli.main(["simulate", *options]) == 1
    assert named in capsys.readouterr().err
