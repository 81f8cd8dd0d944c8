"""The comparison with a measured ladder, on reports that the simulation itself made."""

import json

import pytest

from pem_fleet import cli
from pem_fleet.queueing.knee import Goal, find_knee, run
from pem_fleet.queueing.served_steps import Cost, read_steps, with_costs
from pem_fleet.queueing.validate import fitted, validate

COSTS = {
    "pem_preprocess": Cost(0.0, 0.005),
    "pem_network": Cost(0.040, 0.020),
    "pem_postprocess": Cost(0.0, 0.002),
}
OVERHEAD_S = 0.003
SETTINGS = {"latency_goal": 800.0, "percentile": 99.0, "max_failures": 0.001, "broken": 0.0}
GOAL = Goal(0.8, 0.99, 0.001)


@pytest.fixture(scope="module")
def steps(root):
    return read_steps(root / "model_repository", None, COSTS, batching=True)


def rung(steps, rate):
    """One step of a load test's report."""
    seen = run(steps, rate, images=3000, overhead_s=OVERHEAD_S)
    counters = seen.counters
    server = {
        name: {"batch": 1.0, "compute_ms": 1e3 * COSTS[name].seconds(1)}
        for name in ("pem_preprocess", "pem_postprocess")
    }
    server["pem_network"] = {
        "batch": counters.mean_batch,
        "compute_ms": 1e3 * counters.compute_s / counters.batched,
    }
    return {"rate": rate, "p50_ms": 1e3 * seen.quantile(0.5), "server": server}


@pytest.fixture(scope="module")
def ladder(steps):
    """A load test's report whose server is the simulated one."""
    return {
        "knee_images_per_second": find_knee(steps, GOAL, overhead_s=OVERHEAD_S),
        "settings": SETTINGS,
        "steps": [rung(steps, rate) for rate in (4.0, 16.0, 24.0, 28.0)],
    }


def test_times_are_found_again_from_means_of_batches(steps, ladder):
    unknown = with_costs(steps, {"pem_network": Cost(0.0, 0.05)})
    found = fitted(unknown, ladder["steps"])[1].cost
    assert found.seconds(1) == pytest.approx(0.060, rel=0.05)
    assert found.seconds(8) == pytest.approx(0.200, rel=0.05)


@pytest.fixture
def check(root, tmp_path):
    """Compare a report with the simulation, as the command does."""

    def run(report):
        (tmp_path / "report.json").write_text(json.dumps(report))
        return validate(tmp_path / "report.json", root / "model_repository", None)

    return run


def test_broken_images_load_no_queue(check, ladder):
    """A fifth of what was sent never came to the network: the same knee in terms of all images."""
    sent = {**ladder, "settings": {**ladder["settings"], "broken": 0.2}}
    sent["knee_images_per_second"] = ladder["knee_images_per_second"] / 0.8
    sent["steps"] = [{**step, "rate": step["rate"] / 0.8} for step in ladder["steps"]]
    agrees, line = check(sent)
    assert agrees, line
    assert not check({**sent, "settings": ladder["settings"]})[0]


def test_a_result_without_a_knee_is_refused(check):
    with pytest.raises(ValueError, match="--shape ladder"):
        check({"knee_images_per_second": None, "steps": []})


def test_the_exit_code_is_whether_they_agree(ladder, tmp_path, capsys):
    path = tmp_path / "report.json"
    for factor, code in ((1, 0), (2, 1)):
        measured = factor * ladder["knee_images_per_second"]
        path.write_text(json.dumps({**ladder, "knee_images_per_second": measured}))
        assert cli.main(["simulate", "--check", str(path)]) == code
        assert f"measured {measured:.1f}" in capsys.readouterr().out
