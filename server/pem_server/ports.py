"""Ports on the loopback address, the only one the local server listens on."""

import contextlib
import socket

LOOPBACK = "127.0.0.1"


def is_taken(port: int) -> bool:
    """Whether a program listens where the server would, on loopback or on every address."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do, so that an earlier server's connections in TIME_WAIT do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return True
    return False


def free_ports(count: int) -> list[int]:
    """Return `count` different ports that nothing uses at this moment."""
    with contextlib.ExitStack() as held:  # keeps each bound until the last is chosen
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind((LOOPBACK, 0))
        return [int(probe.getsockname()[1]) for probe in probes]
