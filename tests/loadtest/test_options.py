"""The options of a run, and what becomes of them."""

import argparse
from pathlib import Path

import pytest

from pem_loadtest.cli import command
from pem_loadtest.options import Settings, add_options, plan, read_settings


def parsed(*arguments: str) -> Settings:
    parser = argparse.ArgumentParser()
    add_options(parser)
    return read_settings(parser.parse_args(arguments))


def test_a_run_needs_no_option() -> None:
    settings = parsed()
    assert (settings.shape, settings.metrics) == ("constant", ("http://127.0.0.1:8002/metrics",))
    assert [step.rate for step in plan(settings)] == [settings.rate]


def test_metrics_of_several_servers_or_of_none() -> None:
    assert parsed("--metrics", "a", "--metrics", "b").metrics == ("a", "b")
    assert parsed("--metrics", "none").metrics == ()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--rate", "0"],
        ["--rate", "nan"],
        ["--warm-up", "-1"],
        ["--broken", "1"],
        ["--percentile", "0"],
        ["--parts", "0"],
        ["--highest-rate", "5"],
        ["--shape", "replay"],
        ["--timestamps", "x"],
    ],
)
def test_impossible_values_name_their_option(arguments: list[str]) -> None:
    with pytest.raises(ValueError, match=arguments[0]):
        parsed(*arguments)


@pytest.mark.parametrize(
    ("shape", "rates"),
    [
        ("constant", [10]),
        ("spike", [10, 18, 10]),
        ("soak", [10] * 10),
    ],
)
def test_each_shape_has_its_steps(shape: str, rates: list[float]) -> None:
    assert [step.rate for step in plan(parsed("--shape", shape))] == rates


def test_a_day_is_quiet_at_four_and_busiest_at_sixteen() -> None:
    rates = [step.rate for step in plan(parsed("--shape", "day", "--rate", "100"))]
    assert len(rates) == 24
    assert rates[4] == min(rates) == pytest.approx(10)
    assert rates[16] == max(rates) == pytest.approx(100)


def test_locust_gets_our_defaults_before_the_users_own_options() -> None:
    made = command(["--users", "3"], "folder")
    assert made[-2:] == ["--users", "3"]
    assert Path(made[made.index("--locustfile") + 1]).is_file()
