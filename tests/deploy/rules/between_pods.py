"""Rules about what connects pods: names, selectors, ports, flows, budgets, scaling."""

from collections.abc import Iterator

from rules import documents as k8s
from rules.documents import Document, Documents, title

NAMESPACE = "pem"
CLUSTER_WIDE = {"Namespace", "PriorityClass", "NodePool", "EC2NodeClass"}
THRESHOLD_SHARE = 0.65


def namespaces(documents: Documents) -> Iterator[str]:
    """Cluster-wide resources have no namespace, all others this one."""
    for document in documents:
        found = document["metadata"].get("namespace")
        expected = None if document["kind"] in CLUSTER_WIDE else NAMESPACE
        if found != expected:
            yield f"{title(document)} must have the namespace {expected}, not {found}."


def selectors(documents: Documents) -> Iterator[str]:
    """Whatever selects pods selects some, and a Deployment its own."""
    for document in documents:
        own = document["kind"] == "Deployment"
        candidates = [document] if own else k8s.workloads(documents)
        selector = k8s.pod_selector(document)
        if selector and not any(k8s.selects(document, workload) for workload in candidates):
            yield f"{title(document)} selects {selector}, which no pod's labels match."


def ports(documents: Documents) -> Iterator[str]:
    """Ports that are named exist, and once, in the pods that are meant."""
    opened: dict[str, set[str | int]] = {}
    for workload in k8s.workloads(documents):
        found = [port for each in k8s.containers(workload) for port in each.get("ports", [])]
        names = {port["name"] for port in found}
        opened[title(workload)] = names | {port["containerPort"] for port in found}
        if len(names) < len(found):
            yield f"{title(workload)} names two ports alike."
    for workload, container in k8s.each_container(documents):
        own = {port["name"] for port in container.get("ports", [])}
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            port = container.get(probe, {}).get("httpGet", {}).get("port")
            if isinstance(port, str) and port not in own:
                yield f"{title(workload)}: a probe names the port {port}, which is not there."
    for document in documents:
        selected = [each for each in k8s.workloads(documents) if k8s.selects(document, each)]
        for port in k8s.target_ports(document):
            if not all(port in opened[title(each)] for each in selected):
                yield f"{title(document)} names the port {port}, which its pods do not have."


def availability(documents: Documents) -> Iterator[str]:
    """A budget lets one pod go, and pods are spread and have a priority that exists."""
    deployments = k8s.of_kind(documents, "Deployment")
    least = {each["metadata"]["name"]: each["spec"].get("replicas", 1) for each in deployments}
    for scaler in k8s.autoscalers(documents):
        least[scaler["spec"]["scaleTargetRef"]["name"]] = k8s.bounds(scaler)[0]
    for budget in k8s.of_kind(documents, "PodDisruptionBudget"):
        workload = next((w for w in k8s.workloads(documents) if k8s.selects(budget, w)), None)
        replicas = least.get(workload["metadata"]["name"], 1) if workload else 1
        spec = budget["spec"]
        if spec.get("maxUnavailable") == 0 or spec.get("minAvailable", -1) >= replicas:
            yield f"{title(budget)} never lets a pod of {replicas} go: no node could be drained."
    classes = {each["metadata"]["name"] for each in k8s.of_kind(documents, "PriorityClass")}
    for workload in k8s.workloads(documents):
        if k8s.pod_of(workload).get("priorityClassName") not in classes:
            yield f"{title(workload)} needs a priority class that exists."
    for deployment in deployments:
        for spread in k8s.pod_of(deployment).get("topologySpreadConstraints", [{}]):
            chosen = spread.get("labelSelector", {}).get("matchLabels")
            if not chosen or not chosen.items() <= k8s.labels_of(deployment).items():
                yield f"{title(deployment)} must be spread, by its own labels."


def network(documents: Documents) -> Iterator[str]:
    """Nothing flows by default, and what must flow does."""
    policies = k8s.of_kind(documents, "NetworkPolicy")
    closed = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    if not any(policy["spec"] == closed for policy in policies):
        yield "A NetworkPolicy must deny every flow of every pod."
    for policy in policies:
        for rule in policy["spec"].get("ingress", []) + policy["spec"].get("egress", []):
            if not rule.get("ports") or not (rule.get("from") or rule.get("to")):
                yield f"{title(policy)} must name the peer and the ports of each flow."
    for server, _ in k8s.servers(documents):
        mine = [p for p in policies if p["spec"]["podSelector"] and k8s.selects(p, server)]
        reached = {port for policy in mine for port in k8s.target_ports(policy)}
        for port in sorted({8000, 8001, 8002} - reached):
            yield f"No NetworkPolicy lets anybody reach the port {port} of {title(server)}."
        if any(policy["spec"].get("egress") for policy in mine):
            yield f"{title(server)} connects to nothing, so no NetworkPolicy may let it."


def balancing(documents: Documents) -> Iterator[str]:
    """HAProxy resolves the headless Service that exists, with a slot for every server."""
    services = k8s.of_kind(documents, "Service")
    names = [s["metadata"]["name"] for s in services if s["spec"].get("clusterIP") == "None"]
    headless = {f"{name}.{NAMESPACE}.svc.cluster.local." for name in names}
    most = max((k8s.bounds(scaler)[1] for scaler in k8s.autoscalers(documents)), default=0)
    for proxy in k8s.of_kind(documents, "Deployment", name="pem-haproxy"):
        values = {item["name"]: item["value"] for item in k8s.containers(proxy)[0]["env"]}
        if values["PEM_SERVERS"] not in headless:
            yield f"{title(proxy)} resolves {values['PEM_SERVERS']}, which is no headless Service."
        if int(values["PEM_SLOTS"]) < most:
            yield f"{title(proxy)} has {values['PEM_SLOTS']} slots for up to {most} servers."


def scaling(documents: Documents) -> Iterator[str]:
    """One autoscaler, on the measured threshold, that an empty answer does not fool."""
    scalers = k8s.autoscalers(documents)
    if len(scalers) != 1:
        yield f"There must be one autoscaler, and there are {len(scalers)}."
    for server, _ in k8s.servers(documents):
        if "replicas" in server["spec"]:
            yield f"{title(server)} must leave its replicas to the autoscaler."
    capacity = k8s.configuration(documents, "pem-capacity")
    threshold = float(capacity["threshold_images_per_second"])
    share = THRESHOLD_SHARE * float(capacity["capacity_images_per_second"])
    if abs(threshold - share) > 0.051:
        yield f"The threshold {threshold:g} must be {THRESHOLD_SHARE} of the capacity, {share:g}."
    for scaler in scalers:
        if scaler["spec"]["scaleTargetRef"]["name"] != "pem-server":
            yield f"{title(scaler)} must scale pem-server."
        least, most = k8s.bounds(scaler)
        if least > most:
            yield f"{title(scaler)}: the least, {least} servers, is above the most, {most}."
        if least > 0:  # without any server, the signal is another one
            yield from _signal(scaler, threshold)


def _signal(scaler: Document, threshold: float) -> Iterator[str]:
    spec = scaler["spec"]
    if scaler["kind"] == "ScaledObject":
        trigger = spec["triggers"][0]
        found = trigger["metadata"]["threshold"]
        if trigger["metadata"].get("ignoreNullValues") != "false":
            yield f"{title(scaler)}: an empty answer must be an error, not 0."
        if trigger.get("metricType") != "AverageValue" or "fallback" not in spec:
            yield f"{title(scaler)} needs metricType AverageValue and a fallback."
    else:
        found = spec["metrics"][0]["external"]["target"]["averageValue"]
    if float(found) != threshold:
        yield f"{title(scaler)}: {found} must be the capacity file's threshold, {threshold:g}."
