"""Rules about what a pod holds: ports, volumes, memory, probes, its end, its rights, its GPU."""

import re
from collections.abc import Iterator

from rules.documents import (
    Document,
    bytes_of,
    configuration,
    containers,
    hook_command,
    image_name,
    named,
    of_kind,
    option_seconds,
    pod_of,
    servers,
    title,
    workloads,
)

# By the last part of the image's name: how long its server takes to end at SIGTERM, and how
# long a connection may live, with its grace. From the Dockerfile; a test compares.
EXIT_S = {"t4": 10, "cpu": 10}
CONNECTION_AGE_S = {"t4": (30, 15)}
PROBE_DEADLINE_S = 10  # of deploy/hooks/alive.py


def volumes(documents: list[Document]) -> Iterator[str]:
    """What is mounted is declared."""
    for workload in workloads(documents):
        declared = {volume["name"] for volume in pod_of(workload).get("volumes", [])}
        for container in containers(workload):
            for mount in container.get("volumeMounts", []):
                if mount["name"] not in declared:
                    yield f"{title(workload)} mounts {mount['name']}, which is no volume of it."


def memory(documents: list[Document]) -> Iterator[str]:
    """Memory has limits, and what lies in memory-backed volumes fits into the server's."""
    for workload in workloads(documents):
        for container in containers(workload):
            if "memory" not in container.get("resources", {}).get("limits", {}):
                yield f"{title(workload)}: {container['name']} needs a limit of memory."
    for server, container in servers(documents):
        backed = {
            volume["name"]: volume["emptyDir"]
            for volume in pod_of(server)["volumes"]
            if volume.get("emptyDir", {}).get("medium") == "Memory"
        }
        mounted = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        if mounted.get("/dev/shm") not in backed:
            yield f"{title(server)} needs /dev/shm from an emptyDir of medium Memory."
        if not all("sizeLimit" in volume for volume in backed.values()):
            yield f"{title(server)} needs a sizeLimit on every emptyDir of medium Memory."
            continue
        used = sum(bytes_of(volume["sizeLimit"]) for volume in backed.values())
        limit = bytes_of(container.get("resources", {}).get("limits", {}).get("memory", "0"))
        if used > limit / 2:
            yield f"{title(server)}: volumes in memory may take {used}, over half of {limit} bytes."


def stopping(documents: list[Document]) -> Iterator[str]:
    """The grace holds the drain and the exit; the drain outlives connections."""
    for server, container in servers(documents):
        drain = hook_command(container, "preStop")
        if not any(word.endswith("drain.py") for word in drain):
            yield f"{title(server)} needs deploy/hooks/drain.py as its preStop hook."
            continue
        settle, cap = option_seconds(drain, "settle", 8), option_seconds(drain, "cap", 45)
        image = image_name(container)
        if image not in EXIT_S:
            yield f"{title(server)}: the image must be called as its stage in the Dockerfile."
            continue
        grace = pod_of(server).get("terminationGracePeriodSeconds", 30)
        if grace < cap + EXIT_S[image]:
            yield f"{title(server)}: a grace of {grace} s is below {cap:g} + {EXIT_S[image]} s."
        age, age_grace = CONNECTION_AGE_S.get(image, (0, 0))
        if settle < age or cap < age + age_grace:
            yield f"{title(server)}: connections live {age} + {age_grace} s, longer than the drain."
    for proxy in named(documents, "Deployment", "pem-haproxy"):
        slept = float(hook_command(containers(proxy)[0], "preStop")[-1])
        text = "".join(configuration(documents, "pem-haproxy").values())
        hard = re.search(r"hard-stop-after (\d+)s", text)
        grace = pod_of(proxy).get("terminationGracePeriodSeconds", 30)
        if not hard or grace < slept + int(hard[1]):
            yield f"{title(proxy)}: a grace of {grace} s is below its sleep and hard-stop-after."


def probes(documents: list[Document]) -> Iterator[str]:
    """Three probes, of which liveness infers and waits for the hook's own deadline."""
    for server, container in servers(documents):
        missing = {"startupProbe", "readinessProbe", "livenessProbe"} - container.keys()
        if missing:
            yield f"{title(server)} needs its {', '.join(sorted(missing))}."
            continue
        alive = container["livenessProbe"]
        if not any(word.endswith("alive.py") for word in alive.get("exec", {}).get("command", [])):
            yield f"{title(server)} needs deploy/hooks/alive.py as its liveness probe."
        if alive.get("timeoutSeconds", 1) <= PROBE_DEADLINE_S:
            yield f"{title(server)}: the liveness probe must wait over {PROBE_DEADLINE_S} s."
        start = container["startupProbe"]
        if start.get("periodSeconds", 10) * start.get("failureThreshold", 3) < 300:
            yield f"{title(server)} must have 300 s or more to start."


def images(documents: list[Document]) -> Iterator[str]:
    """Every image has a tag that is a version, or a digest."""
    for workload in workloads(documents):
        for container in containers(workload):
            tag = container["image"].rpartition("/")[2].partition(":")[2]
            if "@sha256:" not in container["image"] and not re.search(r"\d", tag):
                yield f"{title(workload)}: {container['image']} must be pinned to a version."


def security(documents: list[Document]) -> Iterator[str]:
    """Nothing runs as root, writes to its image, gains rights or reaches the cluster's API."""
    for workload in workloads(documents):
        pod = pod_of(workload)
        context = pod.get("securityContext", {})
        if not context.get("runAsNonRoot") or context.get("runAsUser", 0) == 0:
            yield f"{title(workload)} must not run as root."
        if context.get("seccompProfile") != {"type": "RuntimeDefault"}:
            yield f"{title(workload)} needs the seccomp profile RuntimeDefault."
        if pod.get("automountServiceAccountToken") is not False:
            yield f"{title(workload)} must not get a token for the cluster."
        for container in containers(workload):
            own = container.get("securityContext", {})
            if own.get("allowPrivilegeEscalation") is not False:
                yield f"{title(workload)}: {container['name']} must not gain privileges."
            if not own.get("readOnlyRootFilesystem"):
                yield f"{title(workload)}: {container['name']} must not write to its image."
            if own.get("capabilities") != {"drop": ["ALL"]} or own.get("runAsUser") == 0:
                yield f"{title(workload)}: {container['name']} must drop every capability."


def gpus(documents: list[Document]) -> Iterator[str]:
    """GPUs are whole, and requested where there are some; an engine is checked before it serves."""
    for workload in workloads(documents):
        limits = [c.get("resources", {}).get("limits", {}) for c in containers(workload)]
        requested = [limit.get("nvidia.com/gpu") for limit in limits]
        if any(isinstance(count, float) for count in requested):
            yield f"{title(workload)} must request whole GPUs."
        if any(requested) and not {"nodeSelector", "tolerations"} <= pod_of(workload).keys():
            yield f"{title(workload)} needs the label and the taint of a node with a T4."
    for server, container in servers(documents):
        if image_name(container) != "t4":
            continue
        if container.get("resources", {}).get("limits", {}).get("nvidia.com/gpu") != 1:
            yield f"{title(server)} must request one GPU."
        ran = [c.get("command", []) for c in pod_of(server).get("initContainers", [])]
        if not any("pemtrt.preflight" in command for command in ran):
            yield f"{title(server)} must check its engine in an init container."
    for job in of_kind(documents, "Job"):
        engine = configuration(documents, "pem-engine").get("engine_id")
        if job["metadata"]["name"] != f"pem-engine-{engine}":
            yield f"{title(job)} must be called pem-engine-{engine}: a Job cannot be changed."
