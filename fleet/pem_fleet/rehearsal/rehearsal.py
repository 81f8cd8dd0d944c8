"""`./run fleet-test`: the autoscaling loop with real servers on this machine.

What a cluster would do is done here in few lines each: pods.py is the kubelet, live_loop.py KEDA
and the autoscaler, and haproxy.py takes the place of DNS. All else is the real thing.
"""

import argparse
import json
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from pem_fleet.rehearsal import replayed_load, timeline
from pem_fleet.rehearsal.haproxy import haproxy
from pem_fleet.rehearsal.live_loop import LiveLoop
from pem_fleet.rehearsal.pods import PodContext, Pods
from pem_fleet.rehearsal.programs import ProgramError, running
from pem_fleet.rehearsal.prometheus import prometheus
from pem_fleet.rehearsal.rehearsal_setup import Setup, read_setup
from pem_fleet.rehearsal.replayed_load import Request
from pem_fleet.rehearsal.timeline import Sample
from pem_server.checkout import ROOT
from pem_server.ports import free_ports
from pem_server.stub_network import Cost as StubCost
from pem_server.stub_network import stub_repository

DEPLOY = ROOT / "deploy"
STREET = ROOT / "docs" / "street.jpg"
NEEDED = ("haproxy", "prometheus")


def fleet_test(options: argparse.Namespace) -> int:
    """Run it, print the timeline, write report and plot; 0 when all holds."""
    if missing := [name for name in NEEDED if not shutil.which(name)]:
        raise ValueError(f"not installed: sudo apt install {' '.join(missing)}")
    setup = read_setup(options)
    options.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="pem-fleet-") as folder:
        samples, facts = _run(setup, options, Path(folder))
    plan = replace(setup.plan, sent=facts["sent"])
    requests = replayed_load.read_requests(options.output / "load" / "requests.csv")
    found = timeline.problems(plan, samples, requests, facts["drains"])
    write_report(replace(setup, plan=plan), samples, requests, facts, found, options.output)
    print("\n".join(found) or "the servers followed, latency recovered, no image was lost")
    return 1 if found else 0


def _run(
    setup: Setup, options: argparse.Namespace, folder: Path
) -> tuple[list[Sample], dict[str, Any]]:
    """What must be stopped again is entered here, and left in reverse order."""
    logs, scale = options.output, setup.time_scale
    cost = StubCost(setup.cost.fixed_s * 1e3, setup.cost.per_image_s * 1e3)
    port = free_ports(1)[0]
    with ExitStack() as stack:
        repository = stack.enter_context(stub_repository(options.repository, cost))
        monitoring = stack.enter_context(
            prometheus(DEPLOY / "monitoring", port, scale, folder, logs / "prometheus.log")
        )
        config = DEPLOY / "haproxy" / "haproxy.cfg"
        balancer = stack.enter_context(
            haproxy(config, setup.slots, setup.front, folder, logs / "haproxy.log")
        )
        context = PodContext(setup.life, balancer, repository, DEPLOY / "hooks", scale)
        pods = Pods(setup.slots, context, monitoring.scrape)
        stack.callback(pods.kill)
        loop = LiveLoop(setup, pods, monitoring)
        loop.start()
        sent = _send(setup, loop, folder, logs)
        loop.finish()
        facts = {"drains": pods.drains, "sent": sent}
    since = replayed_load.began_at(logs / "load" / "report.json") - loop.began_at
    return [sample._replace(at=round(sample.at - since, 2)) for sample in loop.samples], facts


def _send(setup: Setup, loop: LiveLoop, folder: Path, output: Path) -> int:
    """Run the load test and the loop side by side; the number of planned images."""
    arrivals, images, results = folder / "arrivals", folder / "images", output / "load"
    sent = replayed_load.write_arrivals(arrivals, setup.plan.steps, setup.seed)
    replayed_load.write_images(images, STREET)
    shutil.rmtree(results, ignore_errors=True)
    host = f"grpc://127.0.0.1:{setup.front.grpc}"
    command = replayed_load.command(host, arrivals, images, results, setup.seed)
    log = output / "locust.log"
    with running(command, log) as locust:
        while locust.poll() is None:
            loop.step()
    if not (results / "requests.csv").is_file():
        raise ProgramError(f"the load test left no result: see {log}")
    return sent


def write_report(
    setup: Setup,
    samples: Sequence[Sample],
    requests: Sequence[Request],
    facts: dict[str, Any],
    found: Sequence[str],
    output: Path,
) -> None:
    """Write report.json and fleet-test.png, and print where they are."""
    from pem_fleet.rehearsal.plots import draw_fleet_test

    ends = [request.outcome for request in requests]
    outcomes = {end: ends.count(end) for end in sorted(set(ends))}
    report = {
        "verdict": "fail" if found else "pass",
        "problems": list(found),
        "load": [list(step) for step in setup.plan.steps],
        "outcomes": outcomes,
        "threshold": setup.trigger.threshold,
        "time_scale": setup.time_scale,
        "drains": facts["drains"],
        "seed": setup.seed,
        "samples": [sample._asdict() for sample in samples],
    }
    (output / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    plot = output / "fleet-test.png"
    draw_fleet_test(plot, setup.plan, setup.trigger.threshold, samples, requests)
    print(f"{outcomes}\n{output / 'report.json'}\n{plot}")
