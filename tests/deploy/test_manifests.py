"""Every overlay renders and keeps the rules, and each rule notices what it is for."""

import subprocess
import sys
from typing import Any

import pytest
import yaml
from rules import problems

from .conftest import DEPLOY, Documents, load, render


def test_overlays_and_components_keep_every_rule(manifests: Documents) -> None:
    assert problems(manifests) == []


def test_the_checker_reads_standard_input(gke: Documents) -> None:
    gke[0]["metadata"]["namespace"] = "elsewhere"
    command = [sys.executable, DEPLOY / "check_manifests.py"]
    done = subprocess.run(command, input=yaml.safe_dump_all(gke), capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout == "Namespace pem must have the namespace None, not elsewhere.\n"


def test_both_autoscalers_have_the_same_numbers_and_query_a_recorded_rule() -> None:
    keda = load("components/keda/scaled-object.yaml")["spec"]
    hpa = load("components/hpa/autoscaler.yaml")["spec"]
    rule = load("components/hpa/prometheus-adapter.yaml")["rules"]["external"][0]
    assert hpa["behavior"] == keda["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    least, most = keda["minReplicaCount"], keda["maxReplicaCount"]
    assert (hpa["minReplicas"], hpa["maxReplicas"]) == (least, most)
    assert rule["metricsQuery"] == keda["triggers"][0]["metadata"]["query"]
    groups = load("monitoring/rules.yml")["groups"]
    assert rule["metricsQuery"] in {each.get("record") for g in groups for each in g["rules"]}
    assert hpa["metrics"][0]["external"]["metric"]["name"] == rule["name"]["as"]


def test_an_overlay_takes_its_own_capacity() -> None:
    lines = (DEPLOY / "overlays" / "cpu" / "capacity" / "capacity.env").read_text().splitlines()
    measured = dict(line.split("=", 1) for line in lines if not line.startswith("#"))
    specs = {
        (document["kind"], document["metadata"]["name"]): document.get("spec", {})
        for document in render(DEPLOY / "overlays" / "cpu")
    }
    trigger = specs["ScaledObject", "pem-server"]["triggers"][0]["metadata"]
    assert trigger["threshold"] == measured["threshold_images_per_second"]
    rule = specs["PrometheusRule", "pem-capacity"]["groups"][0]["rules"][0]
    assert rule["expr"] == measured["capacity_images_per_second"]


# What is planted in the manifests of GKE: the rule's sentence, the path to a value, the new value.
# A path begins with kind and name, and names items of lists; None removes the value.
DEPLOYED = ("Deployment", "pem-server", "spec")
POD = (*DEPLOYED, "template", "spec")
TRITON = (*POD, "containers", "triton")
SHM = (*POD, "volumes", "shared-memory", "emptyDir")
LIMITS = (*TRITON, "resources", "limits")
PROXY = ("Deployment", "pem-haproxy", "spec", "template", "spec")
PROXY_ENV = (*PROXY, "containers", "haproxy", "env")
POLICY = ("NetworkPolicy", "pem-server", "spec")
SCALER = ("ScaledObject", "pem-server", "spec")
TRIGGER = (*SCALER, "triggers", "demand")
CAPACITY = ("ConfigMap", "pem-capacity", "data")
NAME = "app.kubernetes.io/name"
BUDGET = {"minAvailable": 2, "selector": {"matchLabels": {NAME: "pem"}}}
TO_ALL = [{"to": [{"podSelector": {}}], "ports": [{"port": 53}]}]
PLANTED: tuple[tuple[str, tuple[Any, ...], Any], ...] = (
    ("a grace of 65 s is below 60 + 10 s", (*POD, "terminationGracePeriodSeconds"), 65),
    ("a grace of 49 s is below its sleep", (*PROXY, "terminationGracePeriodSeconds"), 49),
    ("drain.py", (*TRITON, "lifecycle"), None),
    ("connections live", (*TRITON, "lifecycle", "preStop", "exec", "command", 2), "--settle=8"),
    ("/dev/shm", SHM, {}),
    ("needs a sizeLimit", (*SHM, "sizeLimit"), None),
    ("over half of", (*SHM, "sizeLimit"), "6Gi"),
    ("which is no volume of it", (*TRITON, "volumeMounts", 0, "name"), "shm"),
    ("triton needs a limit of memory", (*LIMITS, "memory"), None),
    ("must request one GPU", (*LIMITS, "nvidia.com/gpu"), 2),
    ("must request whole GPUs", (*LIMITS, "nvidia.com/gpu"), 0.5),
    ("a node with a T4", (*POD, "tolerations"), None),
    ("a node with a T4", (*POD, "nodeSelector"), None),
    ("must check its engine", (*POD, "initContainers", "preflight", "command"), ["true"]),
    ("needs its startupProbe", (*TRITON, "startupProbe"), None),
    ("300 s or more to start", (*TRITON, "startupProbe", "failureThreshold"), 3),
    ("alive.py", (*TRITON, "livenessProbe", "exec", "command"), ["true"]),
    ("must wait over 10 s", (*TRITON, "livenessProbe", "timeoutSeconds"), 5),
    ("the port web", (*TRITON, "readinessProbe", "httpGet", "port"), "web"),
    ("names two ports alike", (*TRITON, "ports", 1, "name"), "http"),
    ("must be pinned to a version", (*TRITON, "image"), "registry.example.com/pem/t4"),
    ("must be pinned to a version", (*TRITON, "image"), "registry.example.com/pem/t4:latest"),
    ("called as its stage in the Dockerfile", (*TRITON, "image"), "localhost:5000/triton:1.2"),
    ("must not run as root", (*POD, "securityContext", "runAsUser"), 0),
    ("must not run as root", (*POD, "securityContext", "runAsNonRoot"), None),
    ("seccomp profile", (*POD, "securityContext", "seccompProfile"), None),
    ("must not get a token", (*POD, "automountServiceAccountToken"), True),
    ("must not write to its image", (*TRITON, "securityContext", "readOnlyRootFilesystem"), False),
    ("must drop every capability", (*TRITON, "securityContext", "capabilities"), None),
    ("gain privileges", (*TRITON, "securityContext", "allowPrivilegeEscalation"), True),
    ("needs a priority class that exists", (*POD, "priorityClassName"), "urgent"),
    ("must be spread, by its own labels", (*POD, "topologySpreadConstraints"), None),
    ("no pod's labels match", (*DEPLOYED, "selector", "matchLabels"), {NAME: "server"}),
    ("no pod's labels match", ("Service", "pem-servers", "spec", "selector"), {NAME: "servers"}),
    ("no pod's labels match", ("PodMonitor", "pem", "spec", "selector", "matchLabels"), {"a": "b"}),
    ("the port grpcs", ("Service", "pem", "spec", "ports", "grpc", "targetPort"), "grpcs"),
    ("the port 9000", (*POLICY, "ingress", 0, "ports", 0, "port"), 9000),
    ("never lets a pod of 2 go", ("PodDisruptionBudget", "pem-server", "spec"), BUDGET),
    ("never lets a", ("PodDisruptionBudget", "pem-haproxy", "spec", "maxUnavailable"), 0),
    ("deny every flow", ("NetworkPolicy", "default-deny", "spec", "policyTypes"), ["Ingress"]),
    ("lets anybody reach the port 8002", (*POLICY, "ingress", 1), None),
    ("must name the peer and the ports", (*POLICY, "ingress", 0, "from"), None),
    ("no NetworkPolicy may let it", (*POLICY, "egress"), TO_ALL),
    ("which is no headless Service", (*PROXY_ENV, "PEM_SERVERS", "value"), "pem.pem.svc."),
    ("has 8 slots for up to 20 servers", (*PROXY_ENV, "PEM_SLOTS", "value"), "8"),
    ("threshold, 64.9", (*TRIGGER, "metadata", "threshold"), "65.0"),
    ("90 must be 0.65 of the capacity, 64.9", (*CAPACITY, "threshold_images_per_second"), "90"),
    ("an empty answer must be an error", (*TRIGGER, "metadata", "ignoreNullValues"), None),
    ("AverageValue and a fallback", (*SCALER, "fallback"), None),
    ("AverageValue and a fallback", (*TRIGGER, "metricType"), "Value"),
    ("must scale pem-server", (*SCALER, "scaleTargetRef", "name"), "pem-haproxy"),
    ("must be one autoscaler, and there are 0", (*SCALER[:2], "kind"), "Scaler"),
    ("is above the most", (*SCALER, "minReplicaCount"), 21),
    ("leave its replicas to the autoscaler", (*DEPLOYED, "replicas"), 2),
    ("must have the namespace pem", ("Service", "pem", "metadata", "namespace"), None),
    ("called pem-engine-a10", ("ConfigMap", "pem-engine", "data", "engine_id"), "a10-26-05"),
)


@pytest.mark.parametrize(("sentence", "path", "value"), PLANTED)
def test_a_planted_error_is_named(
    sentence: str, path: tuple[Any, ...], value: Any, gke: Documents
) -> None:
    kind, name, *steps, last = path
    (place,) = (d for d in gke if d["kind"] == kind and d["metadata"]["name"] == name)
    for step in steps:
        if isinstance(place, list) and isinstance(step, str):
            step = next(index for index, item in enumerate(place) if item["name"] == step)
        place = place[step]
    if value is None:
        del place[last]
    else:
        place[last] = value
    assert any(sentence in problem for problem in problems(gke)), problems(gke)
