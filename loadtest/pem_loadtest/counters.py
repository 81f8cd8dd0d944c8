"""The servers' own counters, of gateway and tritonserver, from the metrics that Prometheus reads.

Facts about Triton's counters that this relies on: they rise after the answer was sent; a failure
of an ensemble counts twice (2.51); a refusal by a full queue counts at the ensemble only, as do
errors that a Python step answers. So only successes are compared with what the clients saw.
"""

import re
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

ENSEMBLE = "fai-pem-m-ade"
NETWORK = "pem_network"
STAGES = ("pem_preprocess", NETWORK, "pem_postprocess", ENSEMBLE)

GATEWAY = "gateway"
ANSWERED = "pem_gateway_images_answered_total"
_GATEWAY_LINE = re.compile(r"^(pem_gateway_images_\w+_total)(?:\{[^}]*\})?\s+(\S+)$", re.MULTILINE)
_LINE = re.compile(r'^(nv_inference_\w+)\{(?:[^}]*,)?model="([^"]*)"[^}]*\}\s+(\S+)$', re.MULTILINE)
_TIMEOUT_S = 10.0
_SETTLING_S = 10.0

Counts = Counter[tuple[str, str]]  # by (metric, model), summed over servers, versions and reasons


def parse(text: str) -> Counts:
    """The counters in one answer of a metrics port."""
    counts: Counts = Counter()
    for metric, model, value in _LINE.findall(text):
        counts[metric, model] += float(value)  # type: ignore[assignment]
    for metric, value in _GATEWAY_LINE.findall(text):
        counts[metric, GATEWAY] += float(value)  # type: ignore[assignment]
    return counts


def scrape(urls: Sequence[str]) -> Counts:
    """The counters of all servers together; OSError when one does not answer."""
    counts: Counts = Counter()
    for url in urls:
        with _opener(url).open(url, timeout=_TIMEOUT_S) as answer:
            counts.update(parse(answer.read().decode()))
    return counts


def is_on_this_machine(url: str) -> bool:
    """Whether the host of a URL is loopback."""
    host = urlsplit(url).hostname or ""
    return host == "localhost" or host.startswith("127.")


def _opener(url: str) -> urllib.request.OpenerDirector:
    """Without the environment's proxies for a server on this machine."""
    here = is_on_this_machine(url)
    return urllib.request.build_opener(*([urllib.request.ProxyHandler({})] if here else []))


def scrape_settled(urls: Sequence[str], is_expected: Callable[[Counts], bool]) -> Counts:
    """The counters once they are as expected, or as they are in the end."""
    deadline = time.monotonic() + _SETTLING_S
    counts = scrape(urls)
    while not is_expected(counts) and time.monotonic() < deadline:
        time.sleep(0.2)
        counts = scrape(urls)
    return counts


def successes(before: Counts, after: Counts, model: str = ENSEMBLE) -> float:
    """By how much a model's counter of successful requests rose.

    Of the ensemble the gateway counts the images that were answered: tritonserver's own number has
    those, too, whose clients had left.
    """
    key = ("nv_inference_request_success", model)
    if model == ENSEMBLE and (ANSWERED, GATEWAY) in after:
        key = (ANSWERED, GATEWAY)
    return after[key] - before[key]


def describe(before: Counts, after: Counts) -> dict[str, dict[str, Any]]:
    """Of each stage that did something: requests, mean batch, milliseconds a request."""
    return {
        model: _describe_one(before, after, model)
        for model in STAGES
        if successes(before, after, model) > 0
    }


def _describe_one(before: Counts, after: Counts, model: str) -> dict[str, Any]:
    def rise(metric: str) -> float:
        return after[f"nv_inference_{metric}", model] - before[f"nv_inference_{metric}", model]

    requests = rise("request_success")
    compute = sum(rise(f"compute_{part}_duration_us") for part in ("input", "infer", "output"))
    return {
        "requests": requests,
        "batch": rise("count") / max(1.0, rise("exec_count")),
        "queue_ms": rise("queue_duration_us") / requests / 1e3,
        "compute_ms": compute / requests / 1e3,
    }
