"""How much one client may ask for: requests a second, and at a time.

A client is the name of a key, or an address where no keys are used; IPv6 addresses count by their
first 64 bits, because one host has all of them.
"""

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from grpc import StatusCode

from .refusal import Refusal

MOST_CLIENTS = 10_000  # remembered; beyond it the ones that are idle for longest are forgotten
BURST_S = 4.0  # so many seconds' requests may come at once


@dataclass(frozen=True)
class Limits:
    """Of each client; 0 is no limit."""

    per_second: float = 100.0
    at_a_time: int = 128
    connections: int = 256


NO_LIMITS = Limits(0, 0, 0)


@dataclass
class _Client:
    tokens: float
    filled_at: float
    running: int = 0


class ClientLimits:
    """The requests of every client: a token bucket and a count of what is in flight for each."""

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self.limits, self._clock = limits, clock
        self._clients: OrderedDict[str, _Client] = OrderedDict()

    @contextmanager
    def request(self, name: str) -> Iterator[None]:
        """One request of a client. Raises Refusal where it is one too many."""
        if not (self.limits.per_second or self.limits.at_a_time):
            yield
            return
        client = self._client(name)
        self._check_running(client)
        self._take_token(client)
        client.running += 1
        try:
            yield
        finally:
            client.running -= 1

    def _client(self, name: str) -> _Client:
        client = self._clients.pop(name, None)
        if client is None:
            self._forget()
            client = _Client(self._burst(), self._clock())
        self._clients[name] = client
        return client

    def _forget(self) -> None:
        """Make room. A client with running requests is remembered, as it is counted down later."""
        while len(self._clients) >= MOST_CLIENTS:
            idle = next((name for name, each in self._clients.items() if not each.running), None)
            if idle is None:
                return
            del self._clients[idle]

    def _burst(self) -> float:
        return max(1.0, self.limits.per_second * BURST_S)

    def _check_running(self, client: _Client) -> None:
        most = self.limits.at_a_time
        if most and client.running >= most:
            raise _too_many(
                f"{most} requests of this client are being answered, which is the limit; wait for "
                "one of them",
                1.0,
            )

    def _take_token(self, client: _Client) -> None:
        rate = self.limits.per_second
        if not rate:
            return
        now = self._clock()
        client.tokens = min(self._burst(), client.tokens + (now - client.filled_at) * rate)
        client.filled_at = now
        if client.tokens < 1:
            raise _too_many(
                f"a client may send {rate:g} requests a second, and this one sent more; slow down",
                (1 - client.tokens) / rate,
            )
        client.tokens -= 1


def _too_many(sentence: str, retry_after_s: float) -> Refusal:
    return Refusal(
        StatusCode.RESOURCE_EXHAUSTED, "rate", sentence, retry_after_s=max(1.0, retry_after_s)
    )


def client_of_address(host: str) -> str:
    """What stands for the hosts behind an address."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host[:64]
    if address.version == 4:
        return str(address)
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((int(address), 64), strict=False))


def host_of_peer(peer: str) -> str:
    """The address in what gRPC calls a peer: ipv4:1.2.3.4:5 or ipv6:%5B::1%5D:5."""
    kind, _, rest = peer.partition(":")
    if kind not in ("ipv4", "ipv6"):
        return peer[:64]
    host = rest.rpartition(":")[0]
    return host.replace("%5B", "").replace("%5D", "").strip("[]")
