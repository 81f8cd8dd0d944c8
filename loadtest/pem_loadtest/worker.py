"""One process of the load test: its images, its sender and its answer checker, under locust."""

import atexit
import contextlib
import os
import sys
from collections.abc import Callable
from typing import Any

import gevent  # type: ignore[import-untyped]

from pem_client import Client

from .coordinator import ENDED
from .image_requests import AnswerChecker
from .images import EncodedImage, make_broken, make_images, read_folder
from .options import STREET, Settings
from .sender import Schedule, Sender
from .verdict import Verdict

DEAD_AFTER = 15  # of locust's heartbeats, a second each

# Every client ever made, so that none is closed: see _leave_at_once.
_clients: list[Client] = []
_exit_codes: list[int] = [Verdict.INVALID]


def live_workers(runner: Any) -> list[str | None]:
    """The names of the live workers; [None] when this is the only process."""
    clients = getattr(runner, "clients", None)
    if clients is None:
        return [None]
    # locust gives a worker up after three seconds without a heartbeat; a busy one comes back.
    return sorted(node.id for node in clients.all if node.heartbeat > -DEAD_AFTER)


class Worker:
    """Everything that sends in one process."""

    def __init__(
        self, settings: Settings, good: list[EncodedImage], on_end: Callable[[int, bytes], None]
    ) -> None:
        broken = make_broken(good[0])
        self._checker = AnswerChecker([*good, *broken])
        self._sender = Sender(good, broken, settings.broken, on_end)
        self._time_limit = settings.time_limit
        self._protocol = ""

    def begin(self, message: dict[str, Any]) -> None:
        """Start the schedule in the coordinator's message."""
        self._sender.begin(Schedule.from_message(message))

    def connect(self, url: str) -> Client:
        """A client for one user; those over gRPC share one connection."""
        self._protocol = url.partition("://")[0]
        client = Client(url, timeout_s=self._time_limit)
        _clients.append(client)
        return client

    def send_one(self, client: Client, fire: Callable[..., None]) -> None:
        """Send the next image at its time, and `fire` locust's request event."""
        sent = self._sender.send_next(lambda index: self._checker.request(client, index))
        if sent is None:
            return
        index, answer, latency_ms, lateness_ms = sent
        name = "broken image" if self._checker.images[index].is_broken else "image"
        failure = RuntimeError(answer.reason) if answer.outcome.is_failure else None
        for kind, what, milliseconds, exception in (
            (self._protocol, name, latency_ms, failure),
            ("sched", "lateness", lateness_ms, None),
        ):
            fire(
                request_type=kind,
                name=what,
                response_time=milliseconds,
                response_length=0,
                exception=exception,
                context={},
            )


def make_worker(settings: Settings, runner: Any) -> Worker:
    """The worker of this process, once gRPC cooperates with greenlets."""
    # Without this every call blocks all users: a fraction of the load is sent, at fine latencies.
    from grpc.experimental.gevent import init_gevent

    init_gevent()
    atexit.register(_leave_at_once)  # the last to be registered is the first to run
    # In a thread: it takes seconds, in which this process must send locust its heartbeats.
    good = gevent.get_hub().threadpool.apply(load_images, (settings,))

    def on_end(number: int, samples: bytes) -> None:
        runner.send_message(ENDED, {"number": number, "samples": samples})

    return Worker(settings, good, on_end)


def remember(exit_code: int) -> None:
    """Keep the exit code of this process."""
    _exit_codes.append(exit_code)


def _leave_at_once() -> None:
    """End this process without closing its connections, once locust has written its files.

    Closing a gRPC channel among greenlets hangs now and then, and the exit code with it.
    """
    with contextlib.suppress(OSError):  # the reader is gone
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(_exit_codes[-1])


def load_images(settings: Settings) -> list[EncodedImage]:
    """The images of the user's folder, or else images made from docs/street.jpg."""
    if settings.images:
        return read_folder(settings.images)
    return make_images(STREET, settings.seed)
