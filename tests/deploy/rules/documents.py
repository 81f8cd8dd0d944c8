"""Reading rendered manifests: what the rules need of them."""

import re
from collections.abc import Iterator
from typing import Any

Document = dict[str, Any]
Documents = list[Document]


def title(document: Document) -> str:
    """Kind and name, for sentences."""
    return f"{document['kind']} {document['metadata']['name']}"


def of_kind(documents: Documents, *kinds: str, name: str = "") -> Documents:
    """The documents of these kinds, and of this name if there is one."""
    return [d for d in documents if d["kind"] in kinds and name in ("", d["metadata"]["name"])]


def workloads(documents: Documents) -> Documents:
    """What makes pods."""
    return of_kind(documents, "Deployment", "Job")


def autoscalers(documents: Documents) -> Documents:
    """Those of KEDA and of Kubernetes itself."""
    return of_kind(documents, "ScaledObject", "HorizontalPodAutoscaler")


def servers(documents: Documents) -> Iterator[tuple[Document, Document]]:
    """Every server's Deployment with the container that Triton runs in."""
    for server in of_kind(documents, "Deployment", name="pem-server"):
        yield server, next(c for c in containers(server) if c["name"] == "triton")


def pod_of(workload: Document) -> Document:
    """The pod that a workload makes."""
    return workload["spec"]["template"]["spec"]


def labels_of(workload: Document) -> dict[str, str]:
    """The labels of the pods that a workload makes."""
    return workload["spec"]["template"]["metadata"]["labels"]


def containers(workload: Document) -> Documents:
    """Its containers, those for its start first."""
    return [*pod_of(workload).get("initContainers", []), *pod_of(workload)["containers"]]


def each_container(documents: Documents) -> Iterator[tuple[Document, Document]]:
    """Every workload with each of its containers."""
    return ((each, container) for each in workloads(documents) for container in containers(each))


def limits_of(container: Document) -> dict[str, Any]:
    """The limits of its resources."""
    return container.get("resources", {}).get("limits", {})


def image_name(container: Document) -> str:
    """The last part of a container's image, without its tag or digest."""
    return re.split("[:@]", container["image"].rpartition("/")[2])[0]


def pod_selector(document: Document) -> dict[str, str]:
    """The labels that a document looks for in pods; empty when it looks for none."""
    spec = document.get("spec", {})
    selector = spec.get("podSelector") or spec.get("selector") or {}
    return selector.get("matchLabels", selector)


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


def pre_stop(container: Document) -> list[str]:
    """The command that runs before the container's SIGTERM."""
    return container.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", [])


def configuration(documents: Documents, name: str) -> dict[str, str]:
    """The data of the ConfigMap of that name, with or without a suffix from its content."""
    for document in of_kind(documents, "ConfigMap"):
        if re.fullmatch(rf"{name}(-[a-z0-9]{{10}})?", document["metadata"]["name"]):
            return document["data"]
    return {}


def bounds(scaler: Document) -> tuple[int, int]:
    """The least and the most servers."""
    spec = scaler["spec"]
    if scaler["kind"] == "ScaledObject":
        return spec.get("minReplicaCount", 0), spec["maxReplicaCount"]
    return spec["minReplicas"], spec["maxReplicas"]


def bytes_of(quantity: str) -> int:
    """Of a quantity such as 512Mi."""
    number, unit = re.fullmatch(r"(\d+)(Ki|Mi|Gi|)", quantity).groups()
    return int(number) * {"": 1, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}[unit]
