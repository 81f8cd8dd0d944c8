"""Check rendered manifests against the rules of pem_manifests.

    kubectl kustomize deploy/overlays/gke-t4 | python deploy/check_manifests.py

One sentence a problem; exit code 1 if there is one. Run it after every change of an overlay. Needs
PyYAML.
"""

import sys

import yaml

from pem_manifests import problems


def main() -> int:
    """Check what comes on standard input."""
    found = problems([document for document in yaml.safe_load_all(sys.stdin) if document])
    print("\n".join(found) or "Every rule holds.")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
