"""uvicorn's HTTP protocol with limits: of time, of header size, of chunks and of connections.

Without them, a client that sends a byte a second holds its connection for ever, and two thousand of
them hold the whole server.
"""

import asyncio
import json
import logging
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from httptools import HttpParserError
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from .client_limits import client_of_address

LEAST_BYTES_A_CHUNK = 64  # on average, after the first CHUNKS_FREE
CHUNKS_FREE = 1000
MOST_PIPELINED = 100  # requests that a connection may send before their turn
# What uvicorn would log is the client's fault, and the client is told.
logging.getLogger("uvicorn.error").addFilter(
    lambda record: not str(record.msg).startswith(("Invalid HTTP request", "Unsupported upgrade"))
)


@dataclass(frozen=True)
class Bounds:
    """What one connection may take."""

    header_s: float = 10.0
    body_grace_s: float = 10.0  # after which a body must have come with `body_bytes_s`
    body_bytes_s: float = 1000.0
    body_s: float = 60.0
    write_s: float = 60.0  # that a client may take to read what it has been sent
    idle_s: float = 75.0  # between two requests
    look_every_s: float = 2.0
    header_bytes: int = 64 << 10
    headers: int = 100


@dataclass
class Connections:
    """All connections of one listener, and how many each address may have (0 is no limit).

    Beyond `most` the one goes that has been sending its request for longest, or has none: a new
    client gets in, however many slow ones there are.
    """

    most: int = 4000
    of_each: int = 0
    bounds: Bounds = field(default_factory=Bounds)
    _open: dict["BoundedProtocol", None] = field(default_factory=dict)  # the oldest first
    _addresses: Counter[str] = field(default_factory=Counter)

    def protocol(self, *arguments: Any, **named: Any) -> "BoundedProtocol":
        """A protocol for the next connection; for uvicorn in place of a class."""
        made = BoundedProtocol(*arguments, **named)
        made.all, made.bounds = self, self.bounds
        made.timeout_keep_alive = self.bounds.idle_s  # type: ignore[assignment]
        return made

    def add(self, connection: "BoundedProtocol") -> bool:
        """Count a new connection; False where its address has too many."""
        while len(self._open) >= self.most and (oldest := self._expendable()):
            oldest.abort()
        self._open[connection] = None
        self._addresses[connection.address] += 1
        return not self.of_each or self._addresses[connection.address] <= self.of_each

    def remove(self, connection: "BoundedProtocol") -> None:
        """Forget a connection that was lost."""
        if self._open.pop(connection, self) is None:
            self._addresses[connection.address] -= 1
            if not self._addresses[connection.address]:
                del self._addresses[connection.address]

    def touch(self, connection: "BoundedProtocol") -> None:
        """A request of this connection was answered: it is the newest again."""
        if self._open.pop(connection, self) is None:
            self._open[connection] = None

    def _expendable(self) -> "BoundedProtocol | None":
        return next((each for each in self._open if not each.is_answering), None)


class BoundedProtocol(HttpToolsProtocol):
    """One connection. Made by `Connections.protocol`."""

    all: Connections
    bounds: Bounds
    address = ""
    _refusal: tuple[int, str] | None = None
    _timer: asyncio.TimerHandle | None = None
    _write_timer: asyncio.TimerHandle | None = None
    _in_header = False
    _in_body = False
    _header_bytes = 0
    _body_bytes = 0
    _chunks = 0
    _body_began = 0.0

    @property
    def is_answering(self) -> bool:
        """Whether a whole request is here that has no answer yet."""
        waits = self.cycle is not None and not self.cycle.response_complete
        return waits and not self._in_header and not self._in_body

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.address = client_of_address(self.client[0] if self.client else "")
        if not self.all.add(self):
            self._refuse(
                429,
                f"an address may have {self.all.of_each} connections, and this one has more; "
                "close some, or use them for several requests",
            )
            return
        self._in_header = True
        self._start_timer(self.bounds.header_s, self._header_late)

    def connection_lost(self, exc: Exception | None) -> None:
        self.all.remove(self)
        self._stop_timer()
        self.resume_writing()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def abort(self) -> None:
        """Close at once, whatever was not sent."""
        self.all.remove(self)  # now, as the loop tells the protocol later
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if self._in_header:
            self._header_bytes += len(data)
        super().data_received(data)
        # What came with the end of the header has been counted too, so look only while it goes on.
        if self._in_header and self._header_bytes > self.bounds.header_bytes:
            self._refuse(431, f"a header may have {self.bounds.header_bytes:,} bytes; send less")

    def send_400_response(self, msg: str) -> None:
        status, sentence = self._refusal or (400, "this is no request of HTTP/1.1; see /docs")
        self._refuse(status, sentence)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if len(self.pipeline) >= MOST_PIPELINED:
            self._stop(400, f"at most {MOST_PIPELINED} requests may be sent before their answers")
        self._in_header, self._header_bytes = True, 0
        self._start_timer(self.bounds.header_s, self._header_late)

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        size = sum(len(key) + len(content) for key, content in self.headers[-1:])
        self._header_bytes += size
        if len(self.headers) > self.bounds.headers:
            self._stop(431, f"at most {self.bounds.headers} headers may be sent")

    def on_headers_complete(self) -> None:
        self._in_header, self._in_body = False, True
        self._body_bytes = self._chunks = 0
        self._body_began = self.loop.time()
        self._start_timer(self.bounds.look_every_s, self._look_at_body)
        super().on_headers_complete()

    def on_chunk_header(self) -> None:
        """Part of httptools' interface, for each chunk of a body."""
        self._chunks += 1
        if self._chunks > CHUNKS_FREE + self._body_bytes / LEAST_BYTES_A_CHUNK:
            self._stop(
                400, f"chunks must have at least {LEAST_BYTES_A_CHUNK} bytes; send larger ones"
            )

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_body = False
        self._stop_timer()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        self.all.touch(self)
        super().on_response_complete()

    def timeout_keep_alive_handler(self) -> None:
        self.abort()  # close() would wait for a client that does not read

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._write_timer is None:
            self._write_timer = self.loop.call_later(self.bounds.write_s, self.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _start_timer(self, seconds: float, then: Any) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(seconds, then)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _header_late(self) -> None:
        self._refuse(408, f"the header did not come within {self.bounds.header_s:g} s")

    def _look_at_body(self) -> None:
        bounds, took = self.bounds, self.loop.time() - self._body_began
        late = took > bounds.body_s
        slow = self._body_bytes < (took - bounds.body_grace_s) * bounds.body_bytes_s
        # A reader that is paused waits for this side.
        if (late or slow) and not self.flow.read_paused:
            self._refuse(
                408,
                f"a body must come within {bounds.body_s:g} s, and with at least "
                f"{bounds.body_bytes_s:g} bytes a second, got {self._body_bytes:,} in {took:.0f} s",
            )
        else:
            self._start_timer(bounds.look_every_s, self._look_at_body)

    def _stop(self, status: int, sentence: str) -> None:
        """Refuse from within the parser, which must not go on."""
        self._refusal = status, sentence
        raise HttpParserError(sentence)

    def _refuse(self, status: int, sentence: str) -> None:
        """Answer and close, unless an answer has begun."""
        self._stop_timer()
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete or not self.cycle.response_started:
            body = json.dumps({"error": sentence}).encode()
            self.transport.write(
                STATUS_LINE[status]
                + b"content-type: application/json\r\nconnection: close\r\ncontent-length: "
                + str(len(body)).encode()
                + b"\r\n\r\n"
                + body
            )
        if self.cycle is not None:
            self.cycle.disconnected = True  # nothing more of the application is sent
            self.cycle.message_event.set()
        self.transport.close()
        # A client that does not read keeps a closing connection open, but not for long.
        self.loop.call_later(self.bounds.look_every_s, self.transport.abort)
