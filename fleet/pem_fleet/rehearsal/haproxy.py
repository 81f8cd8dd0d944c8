"""The HAProxy of deploy/, in front of servers on this machine.

Its file is used as it is except for ports and servers. In a cluster the servers come from DNS and
share their ports; here every slot has its own, closed at first. The runtime socket takes the place
of DNS: a slot opens when its server is ready and closes some time after its end was decided.
"""

import contextlib
import re
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from pem_fleet.rehearsal.programs import ProgramError, running, wait_until
from pem_server.ports import LOOPBACK, is_taken

TEMPLATE = re.compile(r"^( *)server-template (\w+) .*\$\{PEM_(GRPC|HTTP)\b.*$", re.MULTILINE)
CHECK_PORT = re.compile(r'(http-check connect) port "\$\{PEM_HTTP-8000\}"')  # now each slot's
BIND = re.compile(r'bind "\$\{PEM_BIND-:\}(8001|8000|8404)"')
BACKENDS = ("grpc", "http")


class Ports(NamedTuple):
    """The ports of one server, or of HAProxy where clients come in."""

    http: int
    grpc: int
    metrics: int


def fill(config: str, slots: Sequence[Ports], front: Ports) -> str:
    """Return the configuration with the slots in place of the templates."""

    def servers(found: re.Match[str]) -> str:
        indent, name, protocol = found.groups()
        return "\n".join(
            f"{indent}server {name}{number} {LOOPBACK}:{getattr(slot, protocol.lower())} "
            f"check port {slot.http} disabled"
            for number, slot in enumerate(slots, start=1)
        )

    ports = {"8000": front.http, "8001": front.grpc, "8404": front.metrics}
    filled, templates = TEMPLATE.subn(servers, config)
    filled, checks = CHECK_PORT.subn(r"\1", filled)
    filled, binds = BIND.subn(lambda found: f"bind {LOOPBACK}:{ports[found[1]]}", filled)
    if (templates, checks, binds) != (2, 1, 3):
        raise ProgramError(
            "haproxy.cfg must have 2 server-template lines, 1 check with PEM_HTTP and 3 binds with "
            f"PEM_BIND, got {templates}, {checks} and {binds}: adapt {__name__}"
        )
    return filled


class HAProxy:
    """A HAProxy that runs."""

    def __init__(self, runtime: Path) -> None:
        self._runtime = runtime

    def set_state(self, slot: int, state: Literal["ready", "drain", "maint"]) -> None:
        """Route requests to a slot (counted from 0); no new ones; or stop its checks, too."""
        for backend in BACKENDS:
            command = f"set server {backend}/server{slot + 1} state {state}"
            if answer := self._send(command).strip():
                raise ProgramError(f"HAProxy refused {command!r}: {answer}")

    def _send(self, command: str) -> str:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(5.0)
            connection.connect(str(self._runtime))
            connection.sendall(f"{command}\n".encode())
            return connection.makefile().read()


@contextlib.contextmanager
def haproxy(
    config: Path, slots: Sequence[Ports], front: Ports, folder: Path, log: Path
) -> Iterator[HAProxy]:
    """Run HAProxy for the length of a block."""
    runtime = folder / "haproxy.sock"
    (folder / "haproxy.cfg").write_text(fill(config.read_text(), slots, front))
    socket_line = f"global\n    stats socket {runtime} mode 600 level admin\n"
    (folder / "runtime.cfg").write_text(socket_line)
    files = ("-f", str(folder / "haproxy.cfg"), "-f", str(folder / "runtime.cfg"))
    with running(["haproxy", "-db", *files], log) as program:
        wait_until(lambda: is_taken(front.grpc), program, log, "HAProxy")
        yield HAProxy(runtime)
