"""The rules file: checked by promtool, and that nothing in it goes untested."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from pem_fleet.rehearsal.prometheus import scale_times
from pem_gateway.gateway_metrics import REASONS
from pem_server.step_metrics import OUTCOMES

from .conftest import MONITORING, found


@pytest.fixture
def rules() -> list[dict]:
    groups = yaml.safe_load((MONITORING / "rules.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


@pytest.fixture
def cases() -> list[dict]:
    """Every expectation of the unit tests."""
    tests = yaml.safe_load((MONITORING / "rules_test.yml").read_text())["tests"]
    return [case for test in tests for case in test.get("promql_expr_test", [])]


def promtool(*arguments: object) -> None:
    ended = subprocess.run([found("promtool"), *arguments], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_promtool_accepts_the_configuration() -> None:
    promtool("check", "config", MONITORING / "prometheus.yml")


def test_the_rules_pass_their_unit_tests() -> None:
    promtool("test", "rules", MONITORING / "rules_test.yml")


def test_every_rule_is_tested_with_a_value_and_without_series(
    rules: list[dict], cases: list[dict]
) -> None:
    recorded = {rule["record"] for rule in rules if "record" in rule}
    valued = {case["expr"] for case in cases if case["exp_samples"]}
    empty = {case["expr"] for case in cases if not case["exp_samples"]}
    assert recorded
    assert recorded - valued == recorded - empty == set()


def test_every_alert_is_tested_firing_and_silent(rules: list[dict], cases: list[dict]) -> None:
    alerts = {rule["alert"] for rule in rules if "alert" in rule}
    named = [(re.findall(r'alertname="(\w+)"', case["expr"]), case) for case in cases]
    firing = {name for [*names], case in named if case["exp_samples"] for name in names}
    silent = {name for [*names], case in named if not case["exp_samples"] for name in names}
    assert alerts
    assert alerts - firing == alerts - silent == set()


def test_every_alert_says_how_grave_it_is_and_what_to_do(rules: list[dict]) -> None:
    for rule in rules:
        if "alert" in rule:
            assert rule["labels"]["severity"] in ("page", "ticket"), rule["alert"]
            assert set(rule["annotations"]) == {"summary", "runbook"}, rule["alert"]
            assert rule["annotations"]["runbook"].endswith("."), rule["alert"]


def test_the_rules_ask_for_outcomes_and_reasons_that_are_counted(rules: list[dict]) -> None:
    known = {outcome for outcomes in OUTCOMES.values() for outcome in outcomes}
    used = {
        name
        for rule in rules
        for names in re.findall(r'outcome=~?"([\w|]+)"', rule["expr"])
        for name in names.split("|")
    }
    assert used
    assert used <= known
    reasons = {
        name
        for rule in rules
        for names in re.findall(r'reason[=!]~"([\w|]+)"', rule["expr"])
        for name in names.split("|")
    }
    assert reasons
    assert reasons <= set(REASONS)


def test_the_rules_on_a_shorter_time_scale_are_rules(tmp_path: Path) -> None:
    text = scale_times((MONITORING / "rules.yml").read_text(), 10)
    (tmp_path / "rules.yml").write_text(text)
    promtool("check", "rules", tmp_path / "rules.yml")
    assert not re.search(r"\[\d+[smh]\]|^ *\w+: \d+[smh]$", text, re.MULTILINE)
