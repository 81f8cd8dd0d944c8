"""Wait until this server has nothing more to do; run before SIGTERM.

    python3 drain.py [--metrics http://127.0.0.1:8002/metrics] [--settle 8] [--idle 2] [--cap 45]

Triton fails the requests that an ensemble has in flight when SIGTERM arrives. So the preStop hook
first lets the load balancer learn that this server is leaving (`settle`), then watches the server's
own counters until none has moved and nothing has waited for `idle` seconds. After `cap` seconds it
gives up. The exit code is 0 in any case: a hook that fails only costs the grace it was given.
Standard library only, so that it runs in every image.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence

PENDING = "nv_inference_pending_request_count"
# Requests that ended, either way, and batches that were run: an engine that works through its queue
# moves one of them.
COUNTERS = (
    "nv_inference_request_success",
    "nv_inference_request_failure",
    "nv_inference_exec_count",
)
# A proxy of the environment is not for this machine.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
POLL_S = 0.25
SAMPLE = re.compile(r"^(\w+)(?:\{.*\})? (\S+)", re.MULTILINE)


def main(argv: Sequence[str] | None = None) -> int:
    """Drain, and say in one line how it ended."""
    options = _options(argv)
    began = time.monotonic()
    reason = drain(
        lambda: _read(options.metrics),
        settle_s=options.settle,
        idle_s=options.idle,
        cap_s=options.cap,
    )
    print(f"{reason} after {time.monotonic() - began:.1f} s", file=sys.stderr)
    return 0


def drain(
    read_metrics: Callable[[], str],
    *,
    settle_s: float,
    idle_s: float,
    cap_s: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """Return "idle", "gone" (the server answers no more) or "still busy" (the cap was reached).

    `read_metrics` returns the page that Prometheus reads; OSError means that there is no server.
    """
    deadline = clock() + cap_s
    sleep(min(settle_s, cap_s))
    done, since = -1.0, clock()
    while clock() < deadline:
        try:
            waiting, now_done = work(read_metrics())
        except OSError:
            return "gone"
        if waiting or now_done != done:
            done, since = now_done, clock()
        elif clock() - since >= idle_s:
            return "idle"
        sleep(POLL_S)
    return "still busy"


def work(page: str) -> tuple[float, float]:
    """Return how many requests wait now and the sum of all counters that work moves."""
    waiting = done = 0.0
    for name, value in SAMPLE.findall(page):
        if name == PENDING:
            waiting += float(value)
        elif name in COUNTERS:
            done += float(value)
    return waiting, done


def _read(url: str) -> str:
    with DIRECT.open(url, timeout=2.0) as response:
        return str(response.read().decode())


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="drain.py", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--metrics",
        default="http://127.0.0.1:8002/metrics",
        metavar="URL",
        help="default %(default)s",
    )
    for name, default, meaning in (
        ("settle", 8.0, "until no load balancer sends anything new"),
        ("idle", 2.0, "without work that count as idle; longer than the longest batch"),
        ("cap", 45.0, "after which it gives up, settling included"),
    ):
        parser.add_argument(
            f"--{name}",
            type=float,
            default=default,
            metavar="SECONDS",
            help=f"{meaning}; default %(default)g",
        )
    return parser.parse_args(argv)


if __name__ == "__main__":
    raise SystemExit(main())
