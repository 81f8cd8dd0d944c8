"""Rules about what connects pods: names, selectors, ports, flows, budgets, scaling."""

from collections.abc import Iterator

from rules.documents import (
    Document,
    autoscalers,
    bounds,
    configuration,
    containers,
    labels_of,
    named,
    of_kind,
    open_ports,
    pod_of,
    pod_selector,
    probe_ports,
    selects,
    target_ports,
    title,
    workloads,
)

NAMESPACE = "pem"
CLUSTER_WIDE = {"Namespace", "PriorityClass", "NodePool", "EC2NodeClass"}
THRESHOLD_SHARE = 0.65


def namespaces(documents: list[Document]) -> Iterator[str]:
    """Cluster-wide resources have no namespace, all others this one."""
    for document in documents:
        found = document["metadata"].get("namespace")
        expected = None if document["kind"] in CLUSTER_WIDE else NAMESPACE
        if found != expected:
            yield f"{title(document)} must have the namespace {expected}, not {found}."


def selectors(documents: list[Document]) -> Iterator[str]:
    """Whatever selects pods selects some, and a Deployment its own."""
    labels = [labels_of(workload) for workload in workloads(documents)]
    for document in documents:
        selector = pod_selector(document)
        own = document["kind"] == "Deployment"
        candidates = [labels_of(document)] if own else labels
        if selector and not any(selector.items() <= found.items() for found in candidates):
            yield f"{title(document)} selects {selector}, which no pod's labels match."


def ports(documents: list[Document]) -> Iterator[str]:
    """Ports that are named exist, and once, in the pods that are meant."""
    for workload in workloads(documents):
        names = [port["name"] for item in containers(workload) for port in item.get("ports", [])]
        if len(names) != len(set(names)):
            yield f"{title(workload)} names two ports alike."
        for container in containers(workload):
            own = {port["name"] for port in container.get("ports", [])}
            for port in probe_ports(container):
                if isinstance(port, str) and port not in own:
                    yield f"{title(workload)}: a probe names the port {port}, which is not there."
    for document in documents:
        for port in target_ports(document):
            selected = [item for item in workloads(documents) if selects(document, item)]
            if not all(port in open_ports(item) for item in selected):
                yield f"{title(document)} names the port {port}, which its pods do not have."


def availability(documents: list[Document]) -> Iterator[str]:
    """A budget lets one pod go, and pods are spread and have a priority that exists."""
    least = _least_replicas(documents)
    for budget in of_kind(documents, "PodDisruptionBudget"):
        workload = next((w for w in workloads(documents) if selects(budget, w)), None)
        replicas = least.get(workload["metadata"]["name"], 1) if workload else 1
        spec = budget["spec"]
        if spec.get("maxUnavailable") == 0 or spec.get("minAvailable", -1) >= replicas:
            yield f"{title(budget)} never lets a pod of {replicas} go: no node could be drained."
    classes = {document["metadata"]["name"] for document in of_kind(documents, "PriorityClass")}
    for workload in workloads(documents):
        if pod_of(workload).get("priorityClassName") not in classes:
            yield f"{title(workload)} needs a priority class that exists."
    for deployment in of_kind(documents, "Deployment"):
        for spread in pod_of(deployment).get("topologySpreadConstraints", [{}]):
            chosen = spread.get("labelSelector", {}).get("matchLabels")
            if not chosen or not chosen.items() <= labels_of(deployment).items():
                yield f"{title(deployment)} must be spread, by its own labels."


def network(documents: list[Document]) -> Iterator[str]:
    """Nothing flows by default, and what must flow does."""
    policies = of_kind(documents, "NetworkPolicy")
    closed = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    if not any(policy["spec"] == closed for policy in policies):
        yield "A NetworkPolicy must deny every flow of every pod."
    for policy in policies:
        for rule in policy["spec"].get("ingress", []) + policy["spec"].get("egress", []):
            if not rule.get("ports") or not (rule.get("from") or rule.get("to")):
                yield f"{title(policy)} must name the peer and the ports of each flow."
    for server in named(documents, "Deployment", "pem-server"):
        mine = [p for p in policies if p["spec"]["podSelector"] and selects(p, server)]
        for port in (8000, 8001, 8002):
            if not any(port in target_ports(policy) for policy in mine):
                yield f"No NetworkPolicy lets anybody reach the port {port} of {title(server)}."
        if any(policy["spec"].get("egress") for policy in mine):
            yield f"{title(server)} connects to nothing, so no NetworkPolicy may let it."


def balancing(documents: list[Document]) -> Iterator[str]:
    """HAProxy resolves the headless Service that exists, with a slot for every server."""
    headless = {
        f"{service['metadata']['name']}.{NAMESPACE}.svc.cluster.local."
        for service in of_kind(documents, "Service")
        if service["spec"].get("clusterIP") == "None"
    }
    most = max((bounds(scaler)[1] for scaler in autoscalers(documents)), default=0)
    for proxy in named(documents, "Deployment", "pem-haproxy"):
        values = {item["name"]: item["value"] for item in containers(proxy)[0]["env"]}
        if values["PEM_SERVERS"] not in headless:
            yield f"{title(proxy)} resolves {values['PEM_SERVERS']}, which is no headless Service."
        if int(values["PEM_SLOTS"]) < most:
            yield f"{title(proxy)} has {values['PEM_SLOTS']} slots for up to {most} servers."


def scaling(documents: list[Document]) -> Iterator[str]:
    """One autoscaler, on the measured threshold, that an empty answer does not fool."""
    scalers = autoscalers(documents)
    if len(scalers) != 1:
        yield f"There must be one autoscaler, and there are {len(scalers)}."
    for server in named(documents, "Deployment", "pem-server"):
        if "replicas" in server["spec"]:
            yield f"{title(server)} must leave its replicas to the autoscaler."
    capacity = configuration(documents, "pem-capacity")
    threshold = float(capacity["threshold_images_per_second"])
    share = THRESHOLD_SHARE * float(capacity["capacity_images_per_second"])
    if abs(threshold - share) > 0.051:
        yield f"The threshold {threshold:g} must be {THRESHOLD_SHARE} of the capacity, {share:g}."
    for scaler in scalers:
        if scaler["spec"]["scaleTargetRef"]["name"] != "pem-server":
            yield f"{title(scaler)} must scale pem-server."
        least, most = bounds(scaler)
        if least > most:
            yield f"{title(scaler)}: the least, {least} servers, is above the most, {most}."
        if least > 0:  # without any server, the signal is another one
            yield from _signal(scaler, threshold)


def _signal(scaler: Document, threshold: float) -> Iterator[str]:
    is_keda = scaler["kind"] == "ScaledObject"
    if is_keda:
        trigger = scaler["spec"]["triggers"][0]
        found = trigger["metadata"]["threshold"]
    else:
        found = scaler["spec"]["metrics"][0]["external"]["target"]["averageValue"]
    if float(found) != threshold:
        yield f"{title(scaler)}: {found} must be the capacity file's threshold, {threshold:g}."
    if is_keda and trigger["metadata"].get("ignoreNullValues") != "false":
        yield f"{title(scaler)}: an empty answer must be an error, not 0."
    if is_keda and (
        trigger.get("metricType") != "AverageValue" or "fallback" not in scaler["spec"]
    ):
        yield f"{title(scaler)} needs metricType AverageValue and a fallback."


def _least_replicas(documents: list[Document]) -> dict[str, int]:
    deployments = of_kind(documents, "Deployment")
    stated = {item["metadata"]["name"]: item["spec"].get("replicas", 1) for item in deployments}
    scaled = {
        scaler["spec"]["scaleTargetRef"]["name"]: bounds(scaler)[0]
        for scaler in autoscalers(documents)
    }
    return {**stated, **scaled}
