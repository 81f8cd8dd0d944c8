"""Rules about what a pod holds: ports, volumes, memory, probes, its end, its rights, its GPU."""

import re
from collections.abc import Iterator

from rules import documents as k8s
from rules.documents import Documents, title

# By the last part of the image's name: how long its server takes to end at SIGTERM, and how
# long a connection may live, with its grace. From the Dockerfile; a test compares.
EXIT_S = {"t4": 10, "cpu": 10}
CONNECTION_AGE_S = {"t4": (30, 15)}
PROBE_DEADLINE_S = 10  # of deploy/hooks/alive.py


def volumes(documents: Documents) -> Iterator[str]:
    """What is mounted is declared."""
    for workload, container in k8s.each_container(documents):
        declared = {volume["name"] for volume in k8s.pod_of(workload).get("volumes", [])}
        for mount in container.get("volumeMounts", []):
            if mount["name"] not in declared:
                yield f"{title(workload)} mounts {mount['name']}, which is no volume of it."


def memory(documents: Documents) -> Iterator[str]:
    """Memory has limits, and what lies in memory-backed volumes fits into the server's."""
    for workload, container in k8s.each_container(documents):
        if "memory" not in k8s.limits_of(container):
            yield f"{title(workload)}: {container['name']} needs a limit of memory."
    for server, container in k8s.servers(documents):
        volumes = k8s.pod_of(server)["volumes"]
        found = [each for each in volumes if each.get("emptyDir", {}).get("medium") == "Memory"]
        backed = {volume["name"]: volume["emptyDir"] for volume in found}
        mounted = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        if mounted.get("/dev/shm") not in backed:
            yield f"{title(server)} needs /dev/shm from an emptyDir of medium Memory."
        if not all("sizeLimit" in volume for volume in backed.values()):
            yield f"{title(server)} needs a sizeLimit on every emptyDir of medium Memory."
            continue
        used = sum(k8s.bytes_of(volume["sizeLimit"]) for volume in backed.values())
        limit = k8s.bytes_of(k8s.limits_of(container).get("memory", "0"))
        if used > limit / 2:
            yield f"{title(server)}: volumes in memory may take {used}, over half of {limit} bytes."


def stopping(documents: Documents) -> Iterator[str]:
    """The grace holds the drain and the exit; the drain outlives connections."""
    for server, container in k8s.servers(documents):
        drain = " ".join(k8s.pre_stop(container))
        if "drain.py" not in drain:
            yield f"{title(server)} needs deploy/hooks/drain.py as its preStop hook."
            continue
        options = {"settle": 8, "cap": 45, **dict(re.findall(r"--(\w+)[= ](\d+)", drain))}
        settle, cap = int(options["settle"]), int(options["cap"])
        image = k8s.image_name(container)
        if image not in EXIT_S:
            yield f"{title(server)}: the image must be called as its stage in the Dockerfile."
            continue
        grace = k8s.pod_of(server).get("terminationGracePeriodSeconds", 30)
        if grace < cap + EXIT_S[image]:
            yield f"{title(server)}: a grace of {grace} s is below {cap} + {EXIT_S[image]} s."
        age, age_grace = CONNECTION_AGE_S.get(image, (0, 0))
        if settle < age or cap < age + age_grace:
            yield f"{title(server)}: connections live {age} + {age_grace} s, longer than the drain."
    for proxy in k8s.of_kind(documents, "Deployment", name="pem-haproxy"):
        slept = float(k8s.pre_stop(k8s.containers(proxy)[0])[-1])
        text = "".join(k8s.configuration(documents, "pem-haproxy").values())
        hard = re.search(r"hard-stop-after (\d+)s", text)
        grace = k8s.pod_of(proxy).get("terminationGracePeriodSeconds", 30)
        if not hard or grace < slept + int(hard[1]):
            yield f"{title(proxy)}: a grace of {grace} s is below its sleep and hard-stop-after."


def probes(documents: Documents) -> Iterator[str]:
    """Three probes, of which liveness infers and waits for the hook's own deadline."""
    for server, container in k8s.servers(documents):
        missing = {"startupProbe", "readinessProbe", "livenessProbe"} - container.keys()
        if missing:
            yield f"{title(server)} needs its {', '.join(sorted(missing))}."
            continue
        alive, start = container["livenessProbe"], container["startupProbe"]
        if "alive.py" not in " ".join(alive.get("exec", {}).get("command", [])):
            yield f"{title(server)} needs deploy/hooks/alive.py as its liveness probe."
        if alive.get("timeoutSeconds", 1) <= PROBE_DEADLINE_S:
            yield f"{title(server)}: the liveness probe must wait over {PROBE_DEADLINE_S} s."
        if start.get("periodSeconds", 10) * start.get("failureThreshold", 3) < 300:
            yield f"{title(server)} must have 300 s or more to start."


def images(documents: Documents) -> Iterator[str]:
    """Every image has a tag that is a version, or a digest."""
    for workload, container in k8s.each_container(documents):
        tag = container["image"].rpartition("/")[2].partition(":")[2]
        if "@sha256:" not in container["image"] and not re.search(r"\d", tag):
            yield f"{title(workload)}: {container['image']} must be pinned to a version."


def security(documents: Documents) -> Iterator[str]:
    """Nothing runs as root, writes to its image, gains rights or reaches the cluster's API."""
    for workload in k8s.workloads(documents):
        pod = k8s.pod_of(workload)
        context = pod.get("securityContext", {})
        if not context.get("runAsNonRoot") or context.get("runAsUser", 0) == 0:
            yield f"{title(workload)} must not run as root."
        if context.get("seccompProfile") != {"type": "RuntimeDefault"}:
            yield f"{title(workload)} needs the seccomp profile RuntimeDefault."
        if pod.get("automountServiceAccountToken") is not False:
            yield f"{title(workload)} must not get a token for the cluster."
    for workload, container in k8s.each_container(documents):
        subject = f"{title(workload)}: {container['name']}"
        own = container.get("securityContext", {})
        if own.get("allowPrivilegeEscalation") is not False:
            yield f"{subject} must not gain privileges."
        if not own.get("readOnlyRootFilesystem"):
            yield f"{subject} must not write to its image."
        if own.get("capabilities") != {"drop": ["ALL"]} or own.get("runAsUser") == 0:
            yield f"{subject} must drop every capability."


def gpus(documents: Documents) -> Iterator[str]:
    """GPUs are whole, and requested where there are some; an engine is checked before it serves."""
    for workload, container in k8s.each_container(documents):
        requested = k8s.limits_of(container).get("nvidia.com/gpu")
        if isinstance(requested, float):
            yield f"{title(workload)} must request whole GPUs."
        if requested and not {"nodeSelector", "tolerations"} <= k8s.pod_of(workload).keys():
            yield f"{title(workload)} needs the label and the taint of a node with a T4."
    for server, container in k8s.servers(documents):
        if k8s.image_name(container) == "t4":
            if k8s.limits_of(container).get("nvidia.com/gpu") != 1:
                yield f"{title(server)} must request one GPU."
            ran = [c.get("command", []) for c in k8s.pod_of(server).get("initContainers", [])]
            if not any("pemtrt.preflight" in command for command in ran):
                yield f"{title(server)} must check its engine in an init container."
    engine = k8s.configuration(documents, "pem-engine").get("engine_id")
    for job in k8s.of_kind(documents, "Job"):
        if job["metadata"]["name"] != f"pem-engine-{engine}":
            yield f"{title(job)} must be called pem-engine-{engine}: a Job cannot be changed."
