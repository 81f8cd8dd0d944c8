"""Write base/prometheus-rule.yaml: monitoring/rules.yml as a resource of the Prometheus operator.

    python deploy/make_prometheus_rule.py

The rules stand in one place, where promtool tests them and compose reads them; kustomize cannot put
one file into another. Standard library only: the text is indented, not parsed.
"""

from pathlib import Path

DEPLOY = Path(__file__).resolve().parent
SOURCE = DEPLOY / "monitoring" / "rules.yml"
TARGET = DEPLOY / "base" / "prometheus-rule.yaml"
HEAD = """\
# Made from ../monitoring/rules.yml by deploy/make_prometheus_rule.py: change that one.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: pem
spec:
"""


def manifest(rules: str) -> str:
    """Return the manifest with the text of a rules file under `spec`."""
    lines = (f"  {line}" if line else "" for line in rules.splitlines())
    return HEAD + "\n".join(lines) + "\n"


if __name__ == "__main__":
    TARGET.write_text(manifest(SOURCE.read_text()))
