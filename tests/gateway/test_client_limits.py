import contextlib

import pytest

from pem_gateway import client_limits
from pem_gateway.byte_budget import ByteBudget
from pem_gateway.client_limits import (
    NO_LIMITS,
    ClientLimits,
    Limits,
    client_of_address,
    host_of_peer,
)
from pem_gateway.refusal import Refusal


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_client_has_its_rate_and_no_other_pays_for_it() -> None:
    clock = Clock()
    limits = ClientLimits(Limits(per_second=2, at_a_time=0), clock)
    for _ in range(8):
        with limits.request("anna"):
            pass
    with pytest.raises(Refusal) as caught, limits.request("anna"):
        pass
    assert (caught.value.http_status, caught.value.reason) == (429, "rate")
    assert caught.value.retry_after_s == 1
    with limits.request("bert"):
        pass
    clock.now += 0.5
    with limits.request("anna"):
        pass


def test_a_client_has_so_many_requests_at_a_time() -> None:
    limits = ClientLimits(Limits(per_second=0, at_a_time=2))
    with limits.request("anna"), limits.request("anna"):
        with pytest.raises(Refusal), limits.request("anna"):
            pass
        with limits.request("bert"):
            pass
    with limits.request("anna"), limits.request("anna"):
        pass


def test_a_failed_request_gives_its_place_back() -> None:
    limits = ClientLimits(Limits(per_second=0, at_a_time=1))
    for _ in range(3):
        with contextlib.suppress(ZeroDivisionError), limits.request("anna"):
            raise ZeroDivisionError


def test_no_limits_remember_nobody() -> None:
    limits = ClientLimits(NO_LIMITS)
    with limits.request("anna"):
        assert not limits._clients


def test_memory_of_clients_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_limits, "MOST_CLIENTS", 10)
    limits = ClientLimits(Limits())
    with limits.request("busy"):
        for number in range(100):
            with limits.request(str(number)):
                pass
        assert len(limits._clients) == 10
        assert "busy" in limits._clients


@pytest.mark.parametrize(
    ("host", "client"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8::1:2:3:4", "2001:db8::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("unix", "unix"),
    ],
)
def test_an_address_stands_for_a_client(host: str, client: str) -> None:
    assert client_of_address(host) == client


def test_a_peer_of_grpc_has_its_address() -> None:
    assert host_of_peer("ipv4:192.0.2.7:5000") == "192.0.2.7"
    assert host_of_peer("ipv6:%5B2001:db8::1%5D:5000") == "2001:db8::1"
    assert host_of_peer("unix:") == "unix:"


def test_bytes_in_flight_have_a_budget() -> None:
    refused = []
    budget = ByteBudget(100, on_refusal=lambda: refused.append(1))
    with budget.hold("anna") as first, budget.hold("bert", 100) as second:
        first.grow(60)
        with pytest.raises(Refusal) as caught:
            second.grow(41)
        assert (caught.value.http_status, caught.value.reason) == (503, "overload")
        assert caught.value.retry_after_s
        with pytest.raises(Refusal), budget.hold("bert", 41):
            pass
        second.grow(40)
        assert budget.used == 100
    assert (budget.used, len(refused)) == (0, 2)


def test_announced_bytes_take_nothing_and_one_client_not_all() -> None:
    budget = ByteBudget(100, share=0.5)
    with budget.hold("anna", 50), budget.hold("anna", 50) as held:
        assert budget.used == 0
        held.grow(50)
        with pytest.raises(Refusal):
            held.grow(1)
        with budget.hold("bert") as other:
            other.grow(50)
