"""A run from its first image to its report."""

import sys

from . import report, server
from .conductor import Conductor
from .options import Settings
from .verdict import Verdict


def run(conductor: Conductor, settings: Settings, url: str) -> Verdict:
    """Conduct, print the table, write the files; the verdict is the exit code."""
    began = report.now()
    tested = server.describe(url)
    print(f"{tested['model']} at {url}", file=sys.stderr)
    result = conductor.conduct()
    found = report.describe(result, settings, url, tested, began)
    report.write(found, result, settings.output)
    print(report.table(found))
    if settings.capacity_file and report.measured_capacity(found, settings.capacity_file):
        print(f"capacity: {settings.capacity_file}")
    print(f"report: {settings.output}", flush=True)
    return result.judgement.verdict
