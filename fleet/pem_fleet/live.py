"""`./run fleet-test`: the autoscaling loop with real servers on this machine.

What a cluster would do is done here in few lines each: pods.py is the kubelet, controller.py KEDA
and the autoscaler, and proxy.py stands for DNS. All else is the real thing.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from pem_fleet import load, monitoring, processes, proxy, timeline
from pem_fleet.controller import Loop
from pem_fleet.pods import Pods, Surroundings
from pem_fleet.settings import Setup, read_setup
from pem_fleet.timeline import Sight
from pem_server.ports import free_ports
from pem_server.stub_network import Cost as StandInCost
from pem_server.stub_network import stub_repository

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
STREET = DEPLOY.parent / "docs" / "street.jpg"
NEEDED = ("haproxy", "prometheus")
COMPUTE = (
    "sum by (model) (nv_inference_compute_infer_duration_us) / 1e6 "
    "/ sum by (model) (nv_inference_request_success)"
)


def fleet_test(options: argparse.Namespace) -> int:
    """Run it, print the timeline, write report and image; 0 when all holds."""
    if missing := [name for name in NEEDED if not shutil.which(name)]:
        raise ValueError(f"Install what the test runs: sudo apt install {' '.join(missing)}.")
    setup = read_setup(options)
    options.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="pem-fleet-") as folder:
        sights, told = _run(setup, options, Path(folder))
    setup = replace(setup, plan=replace(setup.plan, sent=told["sent"]))
    requests = load.read_requests(options.output / "load" / "requests.csv")
    found = timeline.problems(setup.plan, sights, requests, told["drains"])
    _write(setup, sights, requests, told, found, options.output)
    print("\n".join(found) or "the servers followed, latency recovered, no image was lost")
    return 1 if found else 0


def _run(
    setup: Setup, options: argparse.Namespace, folder: Path
) -> tuple[list[Sight], dict[str, Any]]:
    """What must be stopped again is entered here, and left in reverse order."""
    monitored, proxied = DEPLOY / "monitoring", DEPLOY / "haproxy" / "haproxy.cfg"
    logs, factor = options.output, setup.factor
    cost = StandInCost(setup.cost.fixed_s * 1e3, setup.cost.per_image_s * 1e3)
    port = free_ports(1)[0]
    with ExitStack() as stack:
        repository = stack.enter_context(stub_repository(options.repository, cost))
        prometheus = stack.enter_context(
            monitoring.prometheus(monitored, port, factor, folder, logs / "prometheus.log")
        )
        front = stack.enter_context(
            proxy.proxy(proxied, setup.slots, setup.front, folder, logs / "haproxy.log")
        )
        around = Surroundings(setup.life, front, repository, DEPLOY / "hooks", factor)
        pods = Pods(setup.slots, around, prometheus.scrape)
        stack.callback(pods.kill)
        loop = Loop(setup, pods, prometheus)
        loop.start()
        sent = _send(setup, loop, folder, logs)
        costs = {name: [0.0, seconds] for name, seconds in prometheus.values(COMPUTE).items()}
        loop.finish()
        told = {"drains": pods.drains, "start_s": pods.start_s, "sent": sent, "costs": costs}
    since = load.began_at(logs / "load" / "report.json") - loop.began_at
    return [replace(sight, at=round(sight.at - since, 2)) for sight in loop.sights], told


def _send(setup: Setup, loop: Loop, folder: Path, output: Path) -> int:
    """Run the load test and the loop beside it; how many images were to be sent."""
    arrivals, images, results = folder / "arrivals", folder / "images", output / "load"
    sent = load.write_arrivals(arrivals, setup.plan.steps, setup.seed)
    load.write_images(images, STREET)
    shutil.rmtree(results, ignore_errors=True)
    host = f"grpc://127.0.0.1:{setup.front.grpc}"
    command = load.command(host, arrivals, images, results, setup.seed)
    log = output / "locust.log"
    with processes.running(command, log) as locust:
        while locust.poll() is None:
            loop.step()
    if not (results / "requests.csv").is_file():
        raise processes.ProgramError(f"The load test left no result: see {log}.")
    return sent


def _write(
    setup: Setup,
    sights: Sequence[Sight],
    requests: Sequence[load.Request],
    told: dict[str, Any],
    found: Sequence[str],
    output: Path,
) -> None:
    from pem_fleet.plots import draw_fleet_test

    factor = setup.factor
    report = {
        "verdict": "fail" if found else "pass",
        "problems": list(found),
        "load": [list(step) for step in setup.plan.steps],
        "outcomes": _outcomes(requests),
        "threshold": setup.trigger.threshold,
        "quicken": factor,
        "sync_s": setup.sync_s,
        "scrape_s": monitoring.quickened_interval(5.0, factor),
        "window_s": monitoring.quickened_window(60.0, factor),
        "start_s": told["start_s"],
        "costs": {**told["costs"], "pem_network": list(asdict(setup.cost).values())},
        "drains": told["drains"],
        "seed": setup.seed,
        "scaling": asdict(setup.scaling),
        "replicas": [[sight.at, sight.asked] for sight in sights],
        "sights": [asdict(sight) for sight in sights],
    }
    (output / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    draw_fleet_test(
        output / "fleet-test.png", setup.plan, setup.trigger.threshold, sights, requests
    )
    print(f"{_outcomes(requests)}\n{output / 'report.json'}\n{output / 'fleet-test.png'}")


def _outcomes(requests: Sequence[load.Request]) -> dict[str, int]:
    ends = [request.outcome for request in requests]
    return {end: ends.count(end) for end in sorted(set(ends))}
