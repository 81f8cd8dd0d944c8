"""The options of a run, and what becomes of them."""

import argparse

import pytest

from pem_loadtest.options import Settings, add_options, plan, read_settings


def parsed(arguments: str) -> Settings:
    parser = argparse.ArgumentParser()
    add_options(parser)
    return read_settings(parser.parse_args(arguments.split()))


def test_metrics_of_one_server_or_several_or_none() -> None:
    assert parsed("").metrics == ("http://127.0.0.1:8002/metrics",)
    assert parsed("--metrics a --metrics b").metrics == ("a", "b")
    assert parsed("--metrics none").metrics == ()


IMPOSSIBLE = "rate=0 rate=nan warm-up=-1 broken=1 percentile=0 parts=0 highest-rate=5 timestamps=x"


@pytest.mark.parametrize("option", [*IMPOSSIBLE.split(), "shape=replay", "closed=4 --shape=day"])
def test_impossible_values_name_their_option(option: str) -> None:
    with pytest.raises(ValueError, match=f"--{option.partition('=')[0]}"):
        parsed(f"--{option}")


def test_each_shape_has_its_steps() -> None:
    expected = {"constant": [10], "spike": [10, 18, 10], "soak": [10] * 10}
    for shape, rates in expected.items():
        assert [step.rate for step in plan(parsed(f"--shape {shape}"))] == rates
    day = [step.rate for step in plan(parsed("--shape day --rate 100"))]
    assert len(day) == 24
    assert day[4] == min(day) == pytest.approx(10)
    assert day[16] == max(day) == pytest.approx(100)
