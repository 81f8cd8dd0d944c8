"""What must hold between the fields of rendered manifests, which no schema can say."""

from collections.abc import Callable, Iterator
from itertools import chain

from rules import between_pods, within_pods
from rules.documents import Document

Rule = Callable[[list[Document]], Iterator[str]]
RULES: tuple[Rule, ...] = (
    between_pods.namespaces,
    between_pods.selectors,
    between_pods.ports,
    within_pods.volumes,
    within_pods.memory,
    within_pods.stopping,
    within_pods.probes,
    within_pods.images,
    within_pods.security,
    within_pods.gpus,
    between_pods.availability,
    between_pods.network,
    between_pods.balancing,
    between_pods.scaling,
)


def problems(documents: list[Document]) -> list[str]:
    """Return one sentence for each rule that is broken and each place that breaks it."""
    return list(chain.from_iterable(rule(documents) for rule in RULES))
