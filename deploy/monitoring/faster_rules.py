"""Rules and configuration of Prometheus with every duration divided by one factor.

For tests that must not take minutes: what fires after 2m then fires after 12s, by the same rules.

    python deploy/monitoring/faster_rules.py 10 < rules.yml > fast-rules.yml
"""

import re
import sys

MILLISECONDS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000}
# After `for:`, `interval:` and the like, and in the brackets of PromQL: never in a sentence.
DURATION = re.compile(r"(?<=[:\[])( ?)(\d+)(ms|s|m|h)(?=[\]\s,}]|$)")


def faster(text: str, factor: float) -> str:
    """Return `text`, YAML of Prometheus, with every duration divided by `factor`."""

    def divide(found: re.Match[str]) -> str:
        space, number, unit = found.groups()
        return f"{space}{max(1, round(int(number) * MILLISECONDS[unit] / factor))}ms"

    return DURATION.sub(divide, text)


if __name__ == "__main__":
    sys.stdout.write(faster(sys.stdin.read(), float(sys.argv[1])))
