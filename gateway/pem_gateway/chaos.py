"""`./run chaos`: every fault that is known, done to a gateway with a stub network, and what it did.

Each fault has a gateway of its own, started as `./run serve` starts it. Users ask it four times a
second over gRPC and compare each answer with the first; /ready is read twenty times a second.
"""

import collections
import contextlib
import json
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import grpc
import psutil
from tritonclient.grpc.service_pb2 import ModelInferResponse

from pem_server import LocalServerError, free_ports
from pem_server.console import log

from . import deadly_requests
from .backend import CHANNEL, MODEL_INFER
from .http_server import DIRECT
from .process_watch import STUB

ASK_EVERY_S, LOOK_EVERY_S = 0.25, 0.05
BEFORE_S, AFTER_S = 1.0, 2.0  # that users are watched before the fault, and after its end
PATIENCE_S = 60.0  # of a user; the gateway's own is shorter
LONGEST_RECOVERY_S = 60.0
# Of the gateway's refusals; what the transport says instead of an answer is a lost one.
SENTENCES = ("send this image", "give it more time")
ANSWERED, REFUSED, WRONG, LOST = "answered", "refused", "wrong", "lost"


class Served:
    """`./run serve --stub-network` on free ports, in a process of its own."""

    def __init__(self, cost: str = "20:5") -> None:
        self.http, self.grpc, metrics = (f"127.0.0.1:{port}" for port in free_ports(3))
        ports = zip(("http", "grpc", "metrics"), (self.http, self.grpc, metrics), strict=True)
        options = [f"--{name}-port={address.rpartition(':')[2]}" for name, address in ports]
        self._log = tempfile.TemporaryFile()  # noqa: SIM115, a pipe that nobody reads would stop it
        command = [sys.executable, "-m", "pem_gateway", "serve", f"--stub-network={cost}"]
        self.launcher = subprocess.Popen(
            [*command, *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._log,
        )

    def __enter__(self) -> Self:
        while not self.is_ready():
            if self.launcher.poll() is not None:
                raise LocalServerError(self.log())
            time.sleep(LOOK_EVERY_S)
        self.processes = self._processes()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.launcher.terminate()
        self.launcher.wait()
        self._log.close()

    def is_ready(self) -> bool:
        """What a load balancer sees."""
        try:
            with DIRECT.open(f"http://{self.http}/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def log(self) -> str:
        """What it told a person so far."""
        self._log.seek(0)
        return self._log.read().decode(errors="replace")

    def send(self, name: str, number: signal.Signals) -> None:
        """A signal to one of the processes that were there at the start."""
        self.processes[name].send_signal(number)

    def _processes(self) -> dict[str, psutil.Process]:
        launcher = psutil.Process(self.launcher.pid)
        found = {"gateway": launcher, "supervisor": launcher.children()[0]}
        for process in launcher.children(recursive=True):
            command = process.cmdline()
            if command[0].endswith(STUB):
                found[command[1].split("/")[-3]] = process
            elif command[0].endswith("/tritonserver"):
                found["tritonserver"] = process
        return found


@dataclass
class Seen:
    """What users and a load balancer saw."""

    outcomes: collections.Counter[str] = field(default_factory=collections.Counter)
    slowest_s: float = 0.0
    noticed_s: float | None = None  # None: readiness never changed
    recovered_s: float | None = None

    def row(self, name: str) -> str:
        """A line of the table."""
        users = ", ".join(f"{count} {what}" for what, count in sorted(self.outcomes.items()))
        times = ("-" if each is None else f"{each:.1f} s" for each in
                 (self.noticed_s, self.recovered_s, self.slowest_s))  # fmt: skip
        lost, wrong = self.outcomes[LOST], self.outcomes[WRONG]
        return "{:38} {:32} {:>8} {:>9} {:>8} {:>4} {:>5}".format(name, users, *times, lost, wrong)


class Users(threading.Thread):
    """Ask at a steady rate, each time in a thread, until stopped; and watch readiness."""

    def __init__(self, served: Served) -> None:
        super().__init__(daemon=True)
        self._served, self._stopped = served, threading.Event()
        self._channel = grpc.insecure_channel(served.grpc, options=CHANNEL)
        message = deadly_requests.good_request()
        message.outputs.add(name="detections")
        self._request = message.SerializeToString()
        self._expected = self._answer()
        self._asked: list[threading.Thread] = []
        self.seen, self.fault_at = Seen(), float("inf")

    def run(self) -> None:
        """Until `finish`."""
        readiness = threading.Thread(target=self._watch)
        readiness.start()
        while not self._stopped.wait(ASK_EVERY_S):
            self._asked.append(threading.Thread(target=self._ask))
            self._asked[-1].start()
        for thread in (*self._asked, readiness):
            thread.join()
        self._channel.close()

    def finish(self) -> Seen:
        """Wait until the gateway is ready and every user has heard something."""
        deadline = time.monotonic() + LONGEST_RECOVERY_S
        while not self._served.is_ready() and time.monotonic() < deadline:
            time.sleep(LOOK_EVERY_S)
        time.sleep(AFTER_S)
        self._stopped.set()
        self.join()
        return self.seen

    def _answer(self) -> object:
        call = self._channel.unary_unary(MODEL_INFER)
        answer = ModelInferResponse.FromString(call(self._request, timeout=PATIENCE_S))
        return json.loads(answer.raw_output_contents[0][4:])["detections"]

    def _ask(self) -> None:
        began = time.monotonic()
        try:
            outcome = ANSWERED if self._answer() == self._expected else WRONG
        except grpc.RpcError as error:
            outcome = REFUSED if any(words in str(error.details()) for words in SENTENCES) else LOST
        self.seen.outcomes[outcome] += 1
        self.seen.slowest_s = max(self.seen.slowest_s, time.monotonic() - began)

    def _watch(self) -> None:
        while not self._stopped.wait(LOOK_EVERY_S):
            ready, now = self._served.is_ready(), time.monotonic()
            if now < self.fault_at:
                continue
            if not ready and self.seen.noticed_s is None:
                self.seen.noticed_s = now - self.fault_at
            if ready and self.seen.noticed_s is not None and self.seen.recovered_s is None:
                self.seen.recovered_s = now - self.fault_at


Fault = Callable[[Served], object]


def kill(name: str) -> Fault:
    """SIGKILL to one process."""
    return lambda served: served.send(name, signal.SIGKILL)


def stop(name: str, seconds: float) -> Fault:
    """SIGSTOP, and SIGCONT after so long, unless the process is gone by then."""

    def act(served: Served) -> None:
        served.send(name, signal.SIGSTOP)
        time.sleep(seconds)
        with contextlib.suppress(psutil.NoSuchProcess):
            served.send(name, signal.SIGCONT)

    return act


STEPS = ("pem_preprocess", "pem_network", "pem_postprocess", "pem_render")
FAULTS: dict[str, Fault] = {
    **{f"kill -9 {name}": kill(name) for name in (*STEPS, "tritonserver", "supervisor")},
    **{
        f"{name} stands still for {seconds:g} s": stop(name, seconds)
        for name in ("pem_preprocess", "pem_network")
        for seconds in (0.4, 0.9, 1.5, 3.0)
    },
    "tritonserver stands still for 3 s": stop("tritonserver", 3.0),
    "supervisor stands still for 3 s": stop("supervisor", 3.0),
    **{
        name: lambda served, send=send: send(served.http, served.grpc)  # type: ignore[misc]
        for name, send in deadly_requests.KINDS.items()
    },
}


def see(fault: Fault, cost: str = "20:5") -> Seen:
    """Do one fault to a gateway of its own."""
    with Served(cost) as served:
        users = Users(served)
        users.start()
        time.sleep(BEFORE_S)
        users.fault_at = time.monotonic()
        fault(served)
        time.sleep(AFTER_S)
        return users.finish()


def chaos(only: str | None) -> int:
    """Print the table. Exit code 1 if an answer was lost or wrong, or a server did not recover."""
    print("{:38} {:32} {:>8} {:>9} {:>8} {:>4} {:>5}".format(
        "fault", "users saw", "noticed", "recovered", "slowest", "lost", "wrong"))  # fmt: skip
    failed = False
    for name, fault in FAULTS.items():
        if only is None or only in name:
            try:
                seen = see(fault)
            except LocalServerError as error:
                log(str(error))
                return 1
            print(seen.row(name), flush=True)
            hangs = seen.noticed_s is not None and seen.recovered_s is None
            failed |= hangs or bool(seen.outcomes[LOST] or seen.outcomes[WRONG])
    return int(failed)
