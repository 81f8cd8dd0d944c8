"""Facts that several files of the deployment state are the same in all of them."""

import json
import re
import shlex

import pytest
import yaml
from rules import within_pods

from pem_server import local_server

from .conftest import COMMANDS, DEPLOY, SERVICES, STAGES, Documents, load


def engine_command(script: str) -> list[str]:
    """The builder's command line inside a shell script."""
    lines = script.replace("\\\n", " ").splitlines()
    line = next(line for line in lines if "build_engine.py" in line)
    return shlex.split(line.strip().removeprefix("exec "))


def test_the_cluster_has_the_rules_that_promtool_tests(load_source) -> None:
    text = (DEPLOY / "monitoring" / "rules.yml").read_text()
    made = yaml.safe_load(load_source(DEPLOY / "make_prometheus_rule.py").manifest(text))
    assert made["spec"] == yaml.safe_load(text)
    written = load("base/prometheus-rule.yaml")
    assert written == made, "run python deploy/make_prometheus_rule.py"


@pytest.mark.parametrize("file", ["base/capacity.env", "overlays/cpu/capacity/capacity.env"])
def test_a_capacity_file_is_one_that_the_load_test_writes(file: str) -> None:
    capacity = pytest.importorskip("pem_loadtest.capacity")
    assert capacity.read_capacity(DEPLOY / file).source in ("assumed", "measured")


def test_the_rules_know_how_the_images_and_the_probe_end(load_source) -> None:
    t4 = COMMANDS["t4"]
    age, grace = within_pods.CONNECTION_AGE_S["t4"]
    assert f"--exit-timeout-secs={within_pods.EXIT_S['t4']}" in t4
    assert f"--grpc-max-connection-age={age * 1000}" in t4
    assert f"--grpc-max-connection-age-grace={grace * 1000}" in t4
    defaults = local_server.TritonServer.__init__.__kwdefaults__
    cpu = defaults["exit_timeout_s"] + local_server.GRACE_AFTER_TIMEOUT_S
    assert within_pods.EXIT_S["cpu"] == cpu
    alive = load_source(DEPLOY / "hooks/alive.py")
    assert alive._options([]).deadline == within_pods.PROBE_DEADLINE_S


def test_the_engine_is_built_by_one_command_everywhere() -> None:
    image = COMMANDS["engine"]
    documents = yaml.safe_load_all((DEPLOY / "components/t4/engine.yaml").read_text())
    job = next(document for document in documents if document["kind"] == "Job")
    in_cluster = engine_command(job["spec"]["template"]["spec"]["containers"][0]["command"][-1])
    assert engine_command(SERVICES["engine"]["command"][-1]) == image
    # The timings lie on the shared volume there.
    assert in_cluster == [*image[:-1], "--timing-caches=/engines/timing-caches"]


def test_every_image_that_manifests_pull_is_a_stage_or_the_balancer_of_compose(
    manifests: Documents,
) -> None:
    pulled = set(re.findall(r'"image": "([^"]+)"', json.dumps(manifests)))
    own = {image for image in pulled if image.startswith("registry.example.com/pem/")}
    assert {image.rpartition("/")[2].partition(":")[0] for image in own} <= STAGES.keys()
    assert own
    assert pulled - own == {SERVICES[name]["image"] for name in ("haproxy", "haproxy-cpu")}


def test_the_gate_of_the_cpu_server_has_the_ports_it_listens_on() -> None:
    ports = SERVICES["haproxy-cpu"]["environment"]
    pod = load("overlays/cpu/server.yaml")["spec"]["template"]["spec"]
    assert {item["name"]: item["value"] for item in pod["initContainers"][0]["env"]} == ports
    for name in ("HTTP", "GRPC", "METRICS"):
        assert f"--{name.lower()}-port={ports[f'PEM_{name}']}" in COMMANDS["cpu"]
