"""Reading rendered manifests: what the rules need of them."""

import re
from collections.abc import Iterator
from typing import Any

Document = dict[str, Any]


def title(document: Document) -> str:
    """Kind and name, for sentences."""
    return f"{document['kind']} {document['metadata']['name']}"


def of_kind(documents: list[Document], *kinds: str) -> list[Document]:
    """The documents of these kinds."""
    return [document for document in documents if document["kind"] in kinds]


def named(documents: list[Document], kind: str, name: str) -> list[Document]:
    """The documents of a kind and name."""
    return [item for item in of_kind(documents, kind) if item["metadata"]["name"] == name]


def workloads(documents: list[Document]) -> list[Document]:
    """What makes pods."""
    return of_kind(documents, "Deployment", "Job")


def autoscalers(documents: list[Document]) -> list[Document]:
    """The autoscalers."""
    return of_kind(documents, "ScaledObject", "HorizontalPodAutoscaler")


def servers(documents: list[Document]) -> Iterator[tuple[Document, Document]]:
    """Every server's Deployment with the container that Triton runs in."""
    for server in named(documents, "Deployment", "pem-server"):
        yield server, next(c for c in containers(server) if c["name"] == "triton")


def pod_of(workload: Document) -> Document:
    """The pod that a workload makes."""
    pod: Document = workload["spec"]["template"]["spec"]
    return pod


def labels_of(workload: Document) -> dict[str, str]:
    """The labels of the pods that a workload makes."""
    labels: dict[str, str] = workload["spec"]["template"]["metadata"]["labels"]
    return labels


def containers(workload: Document) -> list[Document]:
    """Its containers, those for its start first."""
    return [*pod_of(workload).get("initContainers", []), *pod_of(workload)["containers"]]


def image_name(container: Document) -> str:
    """The last part of a container's image, without its tag or digest."""
    return re.split("[:@]", str(container["image"]).rpartition("/")[2])[0]


def pod_selector(document: Document) -> dict[str, str]:
    """The labels that a document looks for in pods; empty when it looks for none."""
    kind, spec = document["kind"], document.get("spec", {})
    if kind == "Service":
        return dict(spec["selector"])
    if kind in ("Deployment", "PodDisruptionBudget", "PodMonitor"):
        return dict(spec["selector"]["matchLabels"])
    if kind == "NetworkPolicy":
        return dict(spec["podSelector"].get("matchLabels", {}))
    return {}


def selects(document: Document, workload: Document) -> bool:
    """Whether `document` looks for the pods of `workload`."""
    return pod_selector(document).items() <= labels_of(workload).items()


def target_ports(document: Document) -> list[str | int]:
    """The ports of the pods that `document` selects."""
    kind, spec = document["kind"], document.get("spec", {})
    if kind == "Service":
        return [port["targetPort"] for port in spec["ports"]]
    if kind == "PodMonitor":
        return [endpoint["port"] for endpoint in spec["podMetricsEndpoints"]]
    if kind == "NetworkPolicy":
        return [port["port"] for rule in spec.get("ingress", []) for port in rule["ports"]]
    return []


def open_ports(workload: Document) -> set[str | int]:
    """Names and numbers of the ports of all containers of its pods."""
    found = [port for item in containers(workload) for port in item.get("ports", [])]
    return {port["name"] for port in found} | {port["containerPort"] for port in found}


def probe_ports(container: Document) -> list[str | int]:
    """Those of a container's HTTP probes."""
    found = [container.get(f"{kind}Probe", {}) for kind in ("startup", "readiness", "liveness")]
    return [probe["httpGet"]["port"] for probe in found if "httpGet" in probe]


def hook_command(container: Document, hook: str) -> list[str]:
    """The command of a container's hook, `preStop` or `postStart`."""
    return list(container.get("lifecycle", {}).get(hook, {}).get("exec", {}).get("command", []))


def option_seconds(command: list[str], option: str, default: float) -> float:
    """The number after --OPTION in a command."""
    match = re.search(rf"--{option}[= ](\d+)", " ".join(command))
    return float(match[1]) if match else default


def configuration(documents: list[Document], name: str) -> dict[str, str]:
    """The data of the ConfigMap of that name, with or without a suffix from its content."""
    for document in of_kind(documents, "ConfigMap"):
        if re.fullmatch(rf"{name}(-[a-z0-9]{{10}})?", document["metadata"]["name"]):
            return dict(document["data"])
    return {}


def bounds(scaler: Document) -> tuple[int, int]:
    """The least and the most servers."""
    spec = scaler["spec"]
    if scaler["kind"] == "ScaledObject":
        return spec.get("minReplicaCount", 0), spec["maxReplicaCount"]
    return spec["minReplicas"], spec["maxReplicas"]


def bytes_of(quantity: str) -> int:
    """Of a quantity such as 512Mi."""
    number, unit = re.fullmatch(r"(\d+)(Ki|Mi|Gi|)", quantity).groups()  # type: ignore[union-attr]
    return int(number) * {"": 1, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}[unit]
