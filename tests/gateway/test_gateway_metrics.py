"""What Prometheus reads of requests that end in each way."""

import asyncio
import re

import pytest
from grpc import StatusCode

from pem_gateway.gateway_metrics import REASONS, Metrics
from pem_gateway.refusal import Refusal, bad_request


def counts(metrics: Metrics) -> dict[str, float]:
    """Each series that is not 0, by its name without our prefix."""
    lines = re.findall(r"^pem_gateway_images_(\S+) (\S+)$", metrics.page().decode(), re.M)
    return {name: float(value) for name, value in lines if float(value) and "created" not in name}


def test_every_reason_is_there_before_it_happens() -> None:
    page = Metrics().page().decode()
    for reason in REASONS:
        assert f'pem_gateway_images_refused_total{{reason="{reason}"}} 0.0' in page


def test_images_wait_until_they_are_answered() -> None:
    metrics = Metrics()
    with metrics.request() as arrival:
        arrival.read(3)
        assert counts(metrics) == {"offered_total": 3, "waiting": 3}
    assert counts(metrics) == {"offered_total": 3, "answered_total": 3}


@pytest.mark.parametrize(
    ("error", "counted"),
    [
        (bad_request("no"), 'refused_total{reason="bad_request"}'),
        (Refusal(StatusCode.UNAVAILABLE, "overload", "no"), 'refused_total{reason="overload"}'),
        (asyncio.CancelledError(), "abandoned_total"),
        (ValueError(), 'refused_total{reason="failed"}'),
    ],
)
@pytest.mark.parametrize("images", [None, 8])
def test_what_is_not_answered_is_counted_once(
    error: BaseException, counted: str, images: int | None
) -> None:
    metrics = Metrics()

    def fail() -> None:
        with metrics.request() as arrival:
            if images is not None:
                arrival.read(images)
            raise error

    with pytest.raises(type(error)):
        fail()
    assert counts(metrics) == {"offered_total": images or 1, counted: images or 1}
