"""What must hold between the fields of rendered manifests, which no schema can say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain

from pem_manifests import fleet, pods
from pem_manifests.reading import Document

Rule = Callable[[list[Document]], Iterator[str]]
RULES: tuple[Rule, ...] = (
    fleet.namespaces,
    fleet.selectors,
    fleet.ports,
    pods.volumes,
    pods.memory,
    pods.stopping,
    pods.probes,
    pods.images,
    pods.security,
    pods.gpus,
    fleet.availability,
    fleet.network,
    fleet.balancing,
    fleet.scaling,
)


def problems(documents: list[Document]) -> list[str]:
    """Return one sentence for each rule that is broken and each place that breaks it."""
    return list(chain.from_iterable(rule(documents) for rule in RULES))
