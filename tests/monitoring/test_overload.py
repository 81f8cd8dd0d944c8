"""A spike, seen by the real rules: the alerts come, and they go."""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from PIL import Image

from pem_client import Client, Overloaded

from .conftest import Stack, wait_for

CLIENTS = 96  # more than are answered within 5 s at 10 a second
ALERTS = {"PemLosingImages", "PemOverloaded"}


@contextmanager
def load(stack: Stack, clients: int) -> Iterator[Counter[str]]:
    """Clients that send one image after the other until the block ends, and count answers."""
    over = threading.Event()
    answers: Counter[str] = Counter()
    image = Image.new("RGB", (64, 48), (200, 30, 30))

    def send() -> None:
        with Client(stack.server.grpc_url) as client:
            while not over.is_set():
                try:
                    client.infer(image)
                    answers["answered"] += 1
                except Overloaded:
                    answers["refused"] += 1
                    time.sleep(0.5)

    with ThreadPoolExecutor(clients) as pool:
        running = [pool.submit(send) for _ in range(clients)]
        try:
            yield answers
        finally:
            over.set()
    for each in running:
        each.result()


def test_the_overload_alerts_fire_under_a_spike_and_clear_after_it(stack: Stack) -> None:
    with load(stack, clients=1):
        wait_for(lambda: stack.query("pem:loss_ratio"), "the first requests are in the rules")
        assert not stack.firing() & ALERTS

        with load(stack, CLIENTS) as answers:
            wait_for(lambda: stack.firing() >= ALERTS, f"{ALERTS} fire")
            wait_for(
                lambda: stack.query("pem:offered_rps > 1.2 * pem:answered_rps"),
                "load exceeds answers",
            )
            wait_for(lambda: stack.query("pem:backlog > 20"), "the backlog shows")
        assert answers["refused"] > 0
        assert answers["answered"] > 0

        wait_for(lambda: not stack.firing() & ALERTS, "the alerts clear")
        wait_for(lambda: list(stack.query("pem:loss_ratio").values()) == [0], "nothing is lost")
