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


def test_every_value_can_travel_to_a_worker() -> None:
    parser = argparse.ArgumentParser()
    add_options(parser)
    options = parser.parse_args(["--output", "x", "--capacity-file", "y"])
    assert all(type(value) in (str, int, float, type(None)) for value in vars(options).values())
    assert read_settings(options).capacity_file == Path("y")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--rate", "0"], "--rate must be above 0, got 0.0"),
        (["--rate", "nan"], "--rate must be above 0"),
        (["--seconds", "-1"], "--seconds must be above 0"),
        (["--warm-up", "-1"], "--warm-up must be 0 or more"),
        (["--broken", "1"], "--broken must be 0 or a share below 1"),
        (["--percentile", "0"], "--percentile must be above 0 and at most 100"),
        (["--parts", "0"], "--parts must be 1 or more"),
        (["--highest-rate", "5"], "--highest-rate must be at least the rate"),
        (["--closed", "4", "--shape", "spike"], "--closed goes with --shape constant only"),
        (["--shape", "replay"], "--shape replay and --timestamps FILE go together"),
        (["--timestamps", "x"], "--shape replay and --timestamps FILE go together"),
    ],
)
def test_impossible_values_name_their_option(arguments: list[str], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        parsed(*arguments)


@pytest.mark.parametrize(
    ("shape", "steps"), [("constant", 1), ("spike", 3), ("soak", 10), ("day", 24)]
)
def test_each_shape_has_its_steps(shape: str, steps: int) -> None:
    assert len(plan(parsed("--shape", shape))) == steps


def test_locust_gets_our_defaults_before_the_users_own_options() -> None:
    made = command(["--users", "3"], "folder")
    assert made[-2:] == ["--users", "3"]
    assert "folder/locust.html" in made
    assert Path(made[made.index("--locustfile") + 1]).is_file()
