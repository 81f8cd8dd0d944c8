"""What must hold between the fields of rendered manifests, which no schema can say.

Every public function of between_pods and within_pods is a rule: it yields one sentence for each
place that breaks it.
"""

from inspect import getmembers, isfunction

from rules import between_pods, within_pods
from rules.documents import Documents

FUNCTIONS = getmembers(between_pods, isfunction) + getmembers(within_pods, isfunction)
MODULES = {between_pods.__name__, within_pods.__name__}
RULES = [rule for name, rule in FUNCTIONS if name[0] != "_" and rule.__module__ in MODULES]


def problems(documents: Documents) -> list[str]:
    """Return the sentences of all rules."""
    return [problem for rule in RULES for problem in rule(documents)]
