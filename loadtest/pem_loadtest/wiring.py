"""Makes the parts of a process and ties them to locust's runner."""

import atexit
import contextlib
import os
import sys
from collections.abc import Callable
from typing import Any

import gevent  # type: ignore[import-untyped]

from pem_client import Client

from .asking import Examiner
from .conductor import ENDED, Conductor
from .images import EncodedImage, make_broken, make_images, read_folder
from .options import STREET, Settings
from .player import Play, Player
from .verdict import Verdict

DEAD_AFTER = 15  # of locust's heartbeats, a second each

# All that were ever made, so that none is closed: see _leave_at_once.
_clients: list[Client] = []
_exit_codes: list[int] = [Verdict.INVALID]


def make_conductor(settings: Settings, runner: Any) -> Conductor:
    """The conductor of locust's runner: the master, or the only process."""
    return Conductor(settings, runner, lambda: present(runner))


def present(runner: Any) -> list[str | None]:
    """The names of the workers that can play; [None] for a process that plays alone."""
    clients = getattr(runner, "clients", None)
    if clients is None:
        return [None]
    # locust gives a worker up after three seconds without a sign of life; a busy one comes back.
    return sorted(node.id for node in clients.all if node.heartbeat > -DEAD_AFTER)


class Party:
    """All that plays in one process: its images, its player, and who examines the answers."""

    def __init__(
        self, settings: Settings, good: list[EncodedImage], on_end: Callable[[int, bytes], None]
    ) -> None:
        broken = make_broken(good[0])
        self._examiner = Examiner([*good, *broken])
        self._player = Player(good, broken, settings.broken, on_end)
        self._time_limit = settings.time_limit
        self._protocol = ""

    def begin(self, message: dict[str, Any]) -> None:
        """Start the play that the conductor's message orders."""
        self._player.begin(Play.from_message(message))

    def connect(self, url: str) -> Client:
        """A client for one user; those over gRPC share one connection."""
        self._protocol = url.partition("://")[0]
        client = Client(url, timeout_s=self._time_limit)
        _clients.append(client)
        return client

    def send_one(self, client: Client, tell: Callable[..., None]) -> None:
        """Send the next image at its time, and `tell` locust's statistics."""
        sent = self._player.take_part(lambda index: self._examiner.ask(client, index))
        if sent is None:
            return
        index, answer, latency_ms, lateness_ms = sent
        tell(
            request_type=self._protocol,
            name="broken image" if self._examiner.images[index].is_broken else "image",
            response_time=latency_ms,
            response_length=0,
            exception=RuntimeError(answer.reason) if answer.outcome.is_failure else None,
            context={},
        )
        tell(
            request_type="sched",
            name="lateness",
            response_time=lateness_ms,
            response_length=0,
            exception=None,
            context={},
        )


def make_party(settings: Settings, runner: Any) -> Party:
    """The players' side of a process; gRPC learns to work with greenlets first."""
    # Without this every call blocks all users: a fraction of the load is sent, with fine latencies.
    from grpc.experimental.gevent import init_gevent  # type: ignore[import-untyped]

    init_gevent()
    atexit.register(_leave_at_once)  # the last to be registered is the first to run
    # In a thread: it takes seconds, in which this process must send locust its signs of life.
    good = gevent.get_hub().threadpool.apply(corpus, (settings,))
    return Party(
        settings,
        good,
        lambda number, log: runner.send_message(ENDED, {"number": number, "log": log}),
    )


def remember(exit_code: int) -> None:
    """What this process ends with."""
    _exit_codes.append(exit_code)


def _leave_at_once() -> None:
    """End this process without closing its connections, once locust has written its files.

    Closing a gRPC channel among greenlets hangs now and then, and the exit code with it.
    """
    with contextlib.suppress(OSError):  # nobody reads any more
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(_exit_codes[-1])


def corpus(settings: Settings) -> list[EncodedImage]:
    """The images of the user's folder, else those made from the drawn street."""
    if settings.images:
        return read_folder(settings.images)
    return make_images(STREET, settings.seed)
