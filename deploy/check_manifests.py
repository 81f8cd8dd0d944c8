"""Check rendered manifests against the rules in tests/deploy/rules.

    kubectl kustomize deploy/overlays/gke-t4 | python deploy/check_manifests.py

One sentence a problem; exit code 1 if there is one. Run it after every change of an overlay. Needs
PyYAML and the checkout.
"""

import sys
from pathlib import Path

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "deploy"))

from rules import problems


def main() -> int:
    """Check the manifests on standard input."""
    found = problems([document for document in yaml.safe_load_all(sys.stdin) if document])
    print("\n".join(found) or "Every rule holds.")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
