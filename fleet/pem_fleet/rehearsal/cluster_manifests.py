"""The autoscaler and the server's probes and hooks, read from the manifests.

Everything comes from what kustomize renders, so that the rehearsal runs the numbers that a cluster
would get.
"""

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pem_fleet.rehearsal.autoscaler import DEFAULT_DOWN, DEFAULT_UP, Policy, Rules, Scaling

Manifest = Mapping[str, Any]


class ManifestError(ValueError):
    """The manifests cannot be rendered or lack something; one sentence."""


@dataclass(frozen=True)
class Trigger:
    """The metric that decides: a PromQL query and one server's share of its value."""

    query: str
    threshold: float


@dataclass(frozen=True)
class Probe:
    """An HTTP path, requested every `period_s`; it fails after `failures` in a row."""

    path: str
    period_s: float
    timeout_s: float
    failures: int


@dataclass(frozen=True)
class ServerLife:
    """How a server is started, watched and stopped."""

    startup: Probe
    readiness: Probe
    pre_stop: tuple[str, ...]
    grace_s: float


def render(folder: Path) -> list[Manifest]:
    """Return the objects of a kustomization; a YAML file is read as it is."""
    if folder.is_file():
        return [found for found in yaml.safe_load_all(folder.read_text()) if found]
    try:
        rendered = subprocess.run(
            ["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        raise ManifestError(
            "kubectl, which renders the manifests, is not installed: install it, or pass a "
            "rendered file with --manifests"
        ) from None
    if rendered.returncode:
        raise ManifestError(f"kubectl kustomize {folder} failed: {rendered.stderr.strip()}")
    return [found for found in yaml.safe_load_all(rendered.stdout) if found]


def read_scaling(objects: Sequence[Manifest]) -> tuple[Scaling, Trigger]:
    """The bounds, the behavior and the metric of the ScaledObject in them."""
    spec = next((found["spec"] for found in objects if found["kind"] == "ScaledObject"), None)
    if not spec:
        raise ManifestError("found no ScaledObject: choose an overlay with the component keda")
    behavior = spec.get("advanced", {}).get("horizontalPodAutoscalerConfig", {}).get("behavior", {})
    triggers = [one for one in spec["triggers"] if one["type"] == "prometheus"]
    if len(triggers) != 1 or triggers[0].get("metricType", "AverageValue") != "AverageValue":
        raise ManifestError("the ScaledObject must have one prometheus trigger, of AverageValue")
    block = triggers[0]["metadata"]
    scaling = Scaling(
        spec.get("minReplicaCount", 0),
        spec.get("maxReplicaCount", 100),
        _rules(behavior.get("scaleUp", {}), DEFAULT_UP),
        _rules(behavior.get("scaleDown", {}), DEFAULT_DOWN),
    )
    return scaling, Trigger(block["query"], float(block["threshold"]))


def read_life(objects: Sequence[Manifest], container: str = "triton") -> ServerLife:
    """Return probes, preStop hook and grace of the server's Deployment."""
    for found in objects:
        if found["kind"] != "Deployment":
            continue
        pod = found["spec"]["template"]["spec"]
        for one in pod["containers"]:
            if one["name"] == container:
                return ServerLife(
                    startup=_probe(one["startupProbe"]),
                    readiness=_probe(one["readinessProbe"]),
                    pre_stop=tuple(one["lifecycle"]["preStop"]["exec"]["command"]),
                    grace_s=float(pod.get("terminationGracePeriodSeconds", 30)),
                )
    raise ManifestError(f"no Deployment has a container {container}: choose another overlay")


def _rules(block: Manifest, default: Rules) -> Rules:
    policies = tuple(
        Policy(one["type"], int(one["value"]), float(one["periodSeconds"]))
        for one in block.get("policies", ())
    )
    return Rules(
        policies or default.policies,
        float(block.get("stabilizationWindowSeconds", default.window_s)),
        block.get("selectPolicy", default.select),
        float(block.get("tolerance", default.tolerance)),
    )


def _probe(block: Manifest) -> Probe:
    return Probe(
        block["httpGet"]["path"],
        float(block.get("periodSeconds", 10)),
        float(block.get("timeoutSeconds", 1)),
        int(block.get("failureThreshold", 3)),
    )
