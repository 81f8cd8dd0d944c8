"""The command line: `simulate`, and options that cannot be."""

import json

import pytest

from pem_fleet import cli


def test_wrong_options_end_with_2(capsys):
    for options, named in (
        ("simulate --cost pem_network=0:0", "--cost"),
        ("fleet-test --cost -1:5", "--cost"),
        ("fleet-test --quicken fast", "--quicken is now --time-scale"),
        ("", "COMMAND"),
    ):
        with pytest.raises(SystemExit) as ended:
            cli.main(options.split())
        assert ended.value.code == 2
        assert named in capsys.readouterr().err


def test_simulate_writes_capacity_and_loads(tmp_path, capsys):
    costs = ["--cost=pem_preprocess=0:1", "--cost=pem_network=0:100", "--cost=pem_postprocess=0:1"]
    assert cli.main(["simulate", "--goal", "500", "--output", str(tmp_path), *costs]) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert 3 < report["capacity_images_per_second"] < 10
    loads = {row["load"]: row for row in report["loads"]}
    assert loads[1.25]["p99 ms"] > loads[0.25]["p99 ms"] >= loads[0.25]["p50 ms"] >= 100
    assert "capacity" in capsys.readouterr().out


def test_what_cannot_be_simulated_is_a_sentence(capsys):
    named = {"--goal=1": "--goal", "--cost=pem_render=0:5": "not pem_render", "--check=a/b": "a/b"}
    for option, words in named.items():
        assert cli.main(["simulate", option]) == 1
        assert words in capsys.readouterr().err
