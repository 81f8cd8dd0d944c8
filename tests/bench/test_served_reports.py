"""What the measurements of served systems say: tables, verdicts, and where we lose."""

from pathlib import Path
from typing import Any

import pytest

from pem_bench import everything
from pem_bench.cli import BenchError
from pem_bench.end_to_end_report import end_to_end_text, write_end_to_end_plot
from pem_bench.load import Answered
from pem_bench.losses import losses
from pem_bench.memory import parse_mean_batch, summary
from pem_bench.share import share_of
from pem_bench.sweep import SHIPPED, Tried, better, sweep_text

MACHINE = {"processor": "P", "cores": 2, "memory_gib": 4.0, "gpus": [], "packages": {"n": "1"}}


def row(system: str, in_flight: int, speed: float, latency: float) -> dict[str, Any]:
    return {
        "system": system, "protocol": "http", "in_flight": in_flight, "answers": 9, "failures": 0,
        "images_per_second": speed, "p50_ms": latency, "p95_ms": latency, "p99_ms": latency,
        "server_cpu_ms": 100.0, "client_cores": 0.01,
    }  # fmt: skip


def end_to_end(*rows: dict[str, Any]) -> dict[str, Any]:
    same = {"missing": 0, "score": 0.001, "mask_iou": 0.99}
    names = dict.fromkeys(each["system"] for each in rows)
    return {
        "machine": MACHINE,
        "packages": {"fastapi": "1"},
        "settings": {"image": "a.jpg", "bytes": 5000, "rounds": 1, "turn_seconds": 2},
        "systems": {n: {"summary": "S", "megabytes": 500.0, "difference": same} for n in names},
        "rows": list(rows),
    }


def test_the_table_has_a_line_a_lane_and_a_column_a_number_in_flight(tmp_path: Path) -> None:
    content = end_to_end(row("ours", 1, 7, 140), row("ours", 4, 8, 500), row("peer", 4, 9.25, 400))
    text = end_to_end_text(content)
    assert "ours, http                      7.00    8.00" in text
    assert "peer, http                         -    9.25" in text
    assert "27 answers checked, 0 missing or wrong" in text
    assert write_end_to_end_plot(tmp_path / "p.png", content).read_bytes().startswith(b"\x89PNG")


def test_where_a_peer_is_better_is_said() -> None:
    content = end_to_end(row("ours", 1, 7.0, 140), row("peer", 1, 6.0, 120), row("bad", 1, 1, 999))
    content["systems"]["bad"]["megabytes"] = 400.0
    assert losses({"end-to-end": content}) == [
        "p50: with 1 in flight peer has 120 ms, we 140 ms (http).",
        "p95: with 1 in flight peer has 120 ms, we 140 ms (http).",
        "p99: with 1 in flight peer has 120 ms, we 140 ms (http).",
        "memory: bad holds 400 MB, we 500 MB.",
    ]


def test_where_all_are_alike_nothing_is_lost() -> None:
    content = end_to_end(row("ours", 1, 7.0, 140), row("peer", 1, 7.1, 138))
    assert losses({"end-to-end": content}) == []


def test_missed_goals_are_losses() -> None:
    late = {"ratio": 3.5, "ideal_ratio": 3.0, "failed": 2, "sent": 99}
    paced = {"even": late | {"ratio": 1.5, "failed": 0}, "Poisson": late}
    network = {"peak_pss_mb": 2100.0, "growth_mb": 0.0}
    many = {"peak_pss_mb": 900.0, "growth_mb": 20.0, "requests": 10000}
    found = losses(
        {
            "share": {"share": {"share": 0.85}, "paced": paced},
            "memory": {"goal_mb": 2000.0, "runs": {"network": network, "stand-in": many}},
        }
    )
    assert [sentence.partition(":")[0] for sentence in found] == [
        "the server's share",
        "p99 at 80% load, Poisson arrivals",
        "answers at 80% load, Poisson arrivals",
        "resident memory",
        "growth",
    ]


def test_the_share_counts_the_steps_time() -> None:
    answered = Answered((0.1,) * 60, (), 10.0, 0.6)
    used = {"pem_preprocess": 6.0, "pem_postprocess": 6.0, "pem_network": 100.0}
    found = share_of({"1": 8.0, "8": 7.0}, answered, used, cores=2)
    # 125 ms of the engine and 200 ms of the steps on two cores: 225 ms an image
    assert found.reachable == pytest.approx(1 / 0.225)
    assert found.with_client == pytest.approx(1 / 0.230)
    assert found.share == pytest.approx(6 * 0.225)
    assert found.cpu_ms["client"] == pytest.approx(10)


def test_a_share_of_failures_is_none() -> None:
    with pytest.raises(BenchError, match="every request must be answered, but gone"):
        share_of({"1": 8.0}, Answered((0.1,), ("gone",), 1.0, 0.1), {}, cores=2)


def test_growth_is_that_of_the_second_half() -> None:
    samples = [
        {"answered": n, "pss_mb": 500 + 10 * min(n, 5) + 0.5 * n, "rss_mb": 9.0, "shared_mb": 1.0}
        for n in range(101)
    ]
    found = summary(samples)
    assert found["growth_mb"] == pytest.approx(0.5 * 50)
    assert found["peak_pss_mb"] == 600


def test_the_mean_batch_is_the_networks() -> None:
    metrics = (
        'nv_inference_count{model="pem_network",version="1"} 40\n'
        'nv_inference_exec_count{model="pem_network",version="1"} 8\n'
        'nv_inference_count{model="pem_render",version="1"} 7\n'
    )
    assert parse_mean_batch(metrics) == 5
    assert parse_mean_batch("") == 0


def tried(name: str, speed: float, p99: float, failures: int = 0) -> Tried:
    return Tried(name, speed, speed - 0.2, speed + 0.2, 100.0, p99, failures)


def test_better_is_beyond_the_noise_and_costs_no_latency() -> None:
    shipped = Tried(SHIPPED, 7.0, 6.5, 7.5, 100.0, 500, 0)
    others = [
        tried("a.better=1", 8.0, 510),
        tried("a.noise=1", 7.4, 500),
        tried("a.slow=1", 9.0, 900),
        tried("a.broken=1", 9.0, 100, failures=1),
    ]
    assert [each.name for each in better([shipped, *others])] == ["a.better=1"]
    assert "is not the best: a.better=1 is better" in sweep_text(MACHINE, [shipped, *others])
    assert "No candidate is better" in sweep_text(MACHINE, [shipped, *others[1:]])


def test_the_report_holds_every_part_and_ends_with_where_we_lose() -> None:
    parts = [everything.Part("engine", "TABLE", ("engine.png",), 60.0)]
    text = everything.report_text(MACHINE, parts, ["p50: much."])
    places = [text.index(each) for each in ("TABLE", "![engine.png](engine.png)", "* p50: much.")]
    assert places == sorted(places)
    assert "in 1 minutes" in text
    assert "Nowhere in this run" in everything.report_text(MACHINE, parts, [])
