"""What the measurements of served systems say: figures, tables, and where we lose."""

import re
from typing import Any

import pytest

from pem_bench.bench_report import end_to_end_text, steps_text
from pem_bench.end_to_end import Turn, row_of
from pem_bench.load_generator import LoadResult
from pem_bench.memory import Sample, late_growth
from pem_bench.regressions import regressions
from pem_bench.server_overhead import evenly, ideal_latencies, overhead_of

MACHINE = {
    "processor": "P", "cores": 2, "memory_gib": 4.0, "gpus": [], "packages": {"n": "1"}, "load": 0.1
}  # fmt: skip


def row(system: str, in_flight: int, speed: float, latency: float) -> dict[str, Any]:
    return {
        "system": system, "protocol": "http", "in_flight": in_flight, "answers": 9, "failures": 0,
        "images_per_second": speed, "p50_ms": latency, "p99_ms": latency,
        "cpu_ms": {"tritonserver": 60.0, "pem_preprocess": 40.0, "python": 0.0},
        "server_cpu_ms": 100.0, "client_cpu_ms": 1.0,
    }  # fmt: skip


def end_to_end(*rows: dict[str, Any]) -> dict[str, Any]:
    same = {"missing": 0, "score": 0.001, "mask_iou": 0.99}
    facts = {"summary": "S", "megabytes": 500.0, "difference": same}
    return {
        "machine": MACHINE, "packages": {"fastapi": "1"}, "rows": list(rows),
        "settings": {"image": "a.jpg", "bytes": 5000, "rounds": 1, "turn_seconds": 2},
        "systems": {each["system"]: dict(facts) for each in rows},
    }  # fmt: skip


def cells(text: str, start: str) -> list[str]:
    """What follows `start` in the first line that begins with it."""
    line = next(line for line in text.splitlines() if line.startswith(start))
    return line.removeprefix(start).split()


def test_end_to_end_has_a_line_a_protocol_and_a_column_a_number_in_flight() -> None:
    content = end_to_end(row("ours", 1, 7, 140), row("ours", 4, 8, 500), row("peer", 4, 9.25, 400))
    text = end_to_end_text(content)
    assert cells(text, "images a second") == ["1", "4"]
    assert cells(text, "ours, http") == ["7.00", "8.00"]
    assert cells(text, "peer, http") == ["-", "9.25"]
    assert "27 answers checked, 0 missing or wrong" in text


@pytest.mark.parametrize(("speed", "goals"), [(140.0, "met"), (139.9, "MISSED")])
def test_steps_list_each_process_that_worked(speed: float, goals: str) -> None:
    text = steps_text(end_to_end(row("ours", 8, speed, 30)))
    assert "pem_preprocess  tritonserver  server and steps" in text  # and not python, which idled
    assert cells(text, "ours, http")[:3] == ["40.00", "60.00", "100.00"]
    assert text.endswith(f"{goals}.")


def test_where_a_peer_is_better_we_lose() -> None:
    rows = [row("ours", 1, 7.0, 140), row("peer", 1, 7.1, 120), row("bad", 1, 1, 999)]
    content = end_to_end(*rows)
    content["systems"]["bad"]["megabytes"] = 400.0
    assert regressions({"end-to-end": end_to_end(rows[0])}) == []
    assert regressions({"end-to-end": content}) == [
        "p50: with 1 in flight peer has 120 ms, we 140 ms (http).",
        "p99: with 1 in flight peer has 120 ms, we 140 ms (http).",
        "memory: bad holds 400 MB, we 500 MB.",
    ]


def test_missed_goals_are_losses() -> None:
    late = {"ratio": 3.5, "ideal_ratio": 3.0, "failed": 2, "sent": 99}
    paced = {"even": late | {"ratio": 1.5, "failed": 0}, "Poisson": late}
    network = {"peak_mb": 2100.0, "growth_mb": 0.0}
    many = {"peak_mb": 900.0, "growth_mb": 20.0, "requests": 10000}
    overhead = {"overhead": {"share": 0.85}, "paced": paced}
    memory = {"goal_mb": 2000.0, "runs": {"network": network, "stub": many}}
    found = regressions({"overhead": overhead, "memory": memory})
    starts = ["throughput: ", "p99 .*Poisson", "answers .*Poisson", "resident memory: ", "growth: "]
    assert all(re.match(start, text) for start, text in zip(starts, found, strict=True)), found


def turn(client_seconds: float, **cpu: float) -> Turn:
    return Turn(LoadResult((0.1,) * 30, (), 5.0, client_seconds), cpu)


def test_a_row_is_all_turns_together_and_its_share_that_of_what_is_reachable() -> None:
    found = row_of("ours", "grpc", 16, [turn(0.3, tritonserver=1.0), turn(0.3, tritonserver=2.0)])
    names = ("answers", "failures", "images_per_second", "server_cpu_ms", "client_cpu_ms", "p99_ms")
    assert [found[name] for name in names] == pytest.approx([60, 0, 6.0, 50, 10, 100])
    assert found["cpu_ms"] == {"tritonserver": pytest.approx(50)}

    # The steps' time is not the server's overhead.
    used = {"pem_preprocess": 6.0, "pem_postprocess": 6.0, "pem_network": 100.0}
    row = row_of("ours", "grpc", 16, [turn(0.3), turn(0.3, **used)])
    overhead = overhead_of({"1": 8.0, "8": 7.0}, row, cores=2)
    # 125 ms of the engine and 200 ms of the steps on two cores: 225 ms an image
    assert overhead["reachable"] == pytest.approx(1 / 0.225)
    assert overhead["share"] == pytest.approx(6 * 0.225)


def test_the_ideal_server_answers_one_after_the_other() -> None:
    assert evenly(4, 1) == [0, 0.25, 0.5, 0.75]
    assert ideal_latencies([0.0, 1.0, 1.5, 9.0], 1.0) == [1.0, 1.0, 1.5, 1.0]


def test_growth_is_that_of_the_second_half() -> None:
    samples = [Sample(n, 500 + 10 * min(n, 5) + 0.5 * n) for n in range(101)]
    assert late_growth(samples) == pytest.approx(0.5 * 50)
    assert late_growth(samples[:1]) == 0
