"""What a fleet test must find wrong; and what it makes of configurations."""

from dataclasses import replace

import pytest

from pem_fleet.rehearsal.haproxy import Ports, fill
from pem_fleet.rehearsal.pods import local_hook
from pem_fleet.rehearsal.programs import ProgramError
from pem_fleet.rehearsal.prometheus import scale_times
from pem_fleet.rehearsal.replayed_load import Request, write_arrivals
from pem_fleet.rehearsal.timeline import Plan, Sample, problems

STEPS = ((20.0, 2.0), (40.0, 10.0), (40.0, 2.0))
PLAN = Plan(STEPS, threshold=4.0, least=1, most=4, goal_s=1.0, sent=100)
IDLE = ["idle after 5.0 s"]
REQUESTS = [Request(float(at), "answered", 0.2) for at in range(100)]
COUNTS = enumerate([1] * 20 + [2] * 10 + [3] * 50 + [1] * 20)
SAMPLES = [Sample(float(at), 2.0, count, count, 0, 0) for at, count in COUNTS]
# Half of the images are refused, so slowly that they would miss the goal.
REFUSED = [Request(float(at), "overloaded", 9.0) if at % 2 else REQUESTS[at] for at in range(100)]
LOST = Request(5.0, "unavailable", 0.2)


@pytest.mark.parametrize(
    ("samples", "requests", "drains", "found"),
    [
        (SAMPLES, REQUESTS, IDLE, ""),
        (SAMPLES, REFUSED, IDLE, ""),
        (SAMPLES, [*REQUESTS[1:], LOST], IDLE, "1 image(s) ended as unavailable"),
        (SAMPLES, REQUESTS[:-1], IDLE, "99 of 100"),
        ([each._replace(ready=2) for each in SAMPLES], REQUESTS, IDLE, "needs 3"),
        ([*SAMPLES, Sample(100.0, 2.0, 3, 3, 0, 0)], REQUESTS, IDLE, "needs 1"),
        ([each._replace(demand=None) for each in SAMPLES], REQUESTS, IDLE, "no answer"),
        (SAMPLES, REQUESTS, [], "no server was drained"),
        (SAMPLES, REQUESTS, ["still busy after 60.0 s"], "not idle"),
    ],
)
def test_what_must_hold_has_a_sentence_when_it_does_not(samples, requests, drains, found):
    sentences = problems(PLAN, samples, requests, drains)
    assert len(sentences) == bool(found)
    assert found in "".join(sentences)


def test_latency_must_recover_under_the_high_load_and_after_it():
    # The last: while servers start.
    for since, until, count in ((0, 100, 2), (44, 100, 2), (70, 100, 1), (99, 100, 0), (20, 44, 0)):
        late = [replace(each, latency_s=9.0) for each in REQUESTS[since:until]]
        found = problems(PLAN, SAMPLES, REQUESTS[:since] + late + REQUESTS[until:], IDLE)
        assert ["p95" in sentence for sentence in found] == [True] * count


def test_arrivals_are_written_from_the_first(tmp_path):
    count = write_arrivals(tmp_path / "arrivals", [(100.0, 2.0), (100.0, 10.0)], seed=3)
    times = [float(line) for line in (tmp_path / "arrivals").read_text().split()]
    assert (len(times), times[0]) == (count, 0.0)
    assert 150 < sum(at < 100 for at in times) < 250


def test_times_of_prometheus_are_divided_but_not_below_what_it_needs():
    text = "interval: 5s # why\nexpr: rate(a[1m]) + avg_over_time(b[30s])\nfor: 2m\nin 30 s\n"
    assert scale_times(text, 10.0) == (
        "interval: 1000ms # why\nexpr: rate(a[6000ms]) + avg_over_time(b[5000ms])\n"
        "for: 12000ms\nin 30 s\n"
    )
    assert "interval: 5000ms # why\nexpr: rate(a[60000ms])" in scale_times(text, 1.0)


def test_a_hook_runs_here_as_the_manifest_says_but_for_place_and_dns(tmp_path):
    hook = ("python3", "/opt/pem/hooks/drain.py", "--settle=35", "--idle=2", "--metrics=http://x")
    command = local_hook(hook, tmp_path, "http://here", 10.0)
    local = [str(tmp_path / "drain.py"), "--metrics=http://here", "--settle=3.5", "--idle=2"]
    assert command[1:] == local


def test_haproxys_own_file_gets_a_line_for_each_slot(root):
    config = (root / "deploy" / "haproxy" / "haproxy.cfg").read_text()
    slots = [Ports(1001, 1002, 1003), Ports(2001, 2002, 2003)]
    filled = fill(config, slots, Ports(11, 12, 13))
    assert "server server1 127.0.0.1:1002 check port 1001" in filled  # gRPC, checked over HTTP
    assert "server server2 127.0.0.1:2001 check port 2001" in filled
    assert "bind 127.0.0.1:12 proto h2" in filled
    with pytest.raises(ProgramError, match="server-template"):
        fill(filled, slots, Ports(11, 12, 13))
