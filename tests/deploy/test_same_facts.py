"""Facts that several files of the deployment state are the same in all of them."""

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

Stages = dict[str, list[tuple[str, str]]]
Documents = list[dict[str, Any]]


def command_of(stage: list[tuple[str, str]]) -> list[str]:
    """The last CMD of a stage."""
    return list(json.loads([rest for word, rest in stage if word == "CMD"][-1]))


def services(root: Path) -> dict[str, Any]:
    """Those of docker-compose.yml, merged where it says so."""
    return dict(yaml.safe_load((root / "docker-compose.yml").read_text())["services"])


def engine_command(script_lines: str) -> list[str]:
    """The builder's command line inside a shell script."""
    joined = script_lines.replace("\\\n", " ")
    line = next(line for line in joined.splitlines() if "build_engine.py" in line)
    return shlex.split(line.strip().removeprefix("exec "))


def test_the_cluster_has_the_rules_that_promtool_tests(
    deploy: Path, script: Callable[[str], ModuleType]
) -> None:
    written = yaml.safe_load((deploy / "base" / "prometheus-rule.yaml").read_text())
    rules = (deploy / "monitoring" / "rules.yml").read_text()
    made = yaml.safe_load(script("make_prometheus_rule.py").manifest(rules))
    assert made["spec"] == yaml.safe_load(rules)
    assert written == made, "run python deploy/make_prometheus_rule.py"


def test_the_autoscaler_queries_a_recorded_rule(deploy: Path) -> None:
    rules = yaml.safe_load((deploy / "monitoring" / "rules.yml").read_text())
    recorded = {rule.get("record") for group in rules["groups"] for rule in group["rules"]}
    scaler = yaml.safe_load((deploy / "components/keda/scaled-object.yaml").read_text())
    assert scaler["spec"]["triggers"][0]["metadata"]["query"] in recorded


@pytest.mark.parametrize("file", ["base/capacity.env", "overlays/cpu/capacity/capacity.env"])
def test_a_capacity_file_is_one_that_the_load_test_writes(file: str, deploy: Path) -> None:
    capacity = pytest.importorskip("pem_loadtest.capacity")
    assert capacity.read_capacity(deploy / file).source in ("assumed", "measured")


def test_the_rules_know_how_the_images_end(dockerfile_stages: Stages) -> None:
    from rules import within_pods

    from pem_server import local_server

    t4 = " ".join(command_of(dockerfile_stages["t4"]))
    age, grace = within_pods.CONNECTION_AGE_S["t4"]
    assert f"--exit-timeout-secs={within_pods.EXIT_S['t4']}" in t4
    assert f"--grpc-max-connection-age={age * 1000}" in t4
    assert f"--grpc-max-connection-age-grace={grace * 1000}" in t4
    defaults = local_server.TritonServer.__init__.__kwdefaults__
    cpu = defaults["exit_timeout_s"] + local_server.GRACE_AFTER_TIMEOUT_S
    assert within_pods.EXIT_S["cpu"] == cpu


def test_the_probe_gives_up_when_the_rules_say(script: Callable[[str], ModuleType]) -> None:
    from rules import within_pods

    assert script("hooks/alive.py")._options([]).deadline == within_pods.PROBE_DEADLINE_S


def test_the_engine_is_built_by_one_command_everywhere(
    root: Path, deploy: Path, dockerfile_stages: Stages
) -> None:
    image = command_of(dockerfile_stages["engine"])
    in_compose = engine_command(services(root)["engine"]["command"][-1])
    documents = yaml.safe_load_all((deploy / "components/t4/engine.yaml").read_text())
    job = next(document for document in documents if document["kind"] == "Job")
    in_cluster = engine_command(job["spec"]["template"]["spec"]["containers"][0]["command"][-1])
    assert in_compose == image
    assert in_cluster[:-1] == image[:-1]  # the timings lie on the shared volume there
    assert in_cluster[-1] == "--timing-caches=/engines/timing-caches"


def test_every_image_that_manifests_pull_is_a_stage_or_the_balancer_of_compose(
    root: Path, manifests: Documents, dockerfile_stages: Stages
) -> None:
    text = json.dumps(manifests)
    own = set(re.findall(r'"image": "registry\.example\.com/pem/([a-z0-9-]+):', text))
    others = set(re.findall(r'"image": "(?!registry)([^"]+)"', text))
    assert own
    assert own <= dockerfile_stages.keys()
    assert others == {services(root)[name]["image"] for name in ("haproxy", "haproxy-cpu")}


def test_the_gate_of_the_cpu_server_has_the_ports_it_listens_on(
    root: Path, deploy: Path, dockerfile_stages: Stages
) -> None:
    ports = services(root)["haproxy-cpu"]["environment"]
    patch = yaml.safe_load((deploy / "overlays/cpu/server.yaml").read_text())
    gate = patch["spec"]["template"]["spec"]["initContainers"][0]
    command = command_of(dockerfile_stages["cpu"])
    assert {item["name"]: item["value"] for item in gate["env"]} == ports
    for name, option in (("HTTP", "http"), ("GRPC", "grpc"), ("METRICS", "metrics")):
        assert f"--{option}-port={ports[f'PEM_{name}']}" in command
