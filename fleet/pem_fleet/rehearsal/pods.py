"""Real servers in the place of pods: probes, hook and grace are the manifest's.

A pod's life is a thread: start tritonserver, run the startup probe until it succeeds, then the
readiness probe at its period; keep the slot of HAProxy open while it succeeds. At its end it does
what kubelet and endpoints do at the same moment: run the preStop hook, and close the slot later, as
DNS caches a server for some time. After the hook comes SIGTERM.
"""

import http.client
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from pem_fleet.rehearsal.cluster_manifests import Probe, ServerLife
from pem_fleet.rehearsal.haproxy import HAProxy, Ports
from pem_server import TritonServer
from pem_server.ports import LOOPBACK

DNS_S = 30.0  # how long a removed server's name may be remembered, as deploy/base/server.yaml says


@dataclass(frozen=True)
class PodContext:
    """What pods share."""

    life: ServerLife
    proxy: HAProxy
    repository: Path
    hooks: Path
    time_scale: float  # divides the wait for DNS


class Pod:
    """One server in one slot."""

    def __init__(self, number: int, slot: Ports, around: PodContext) -> None:
        self.number, self.slot = number, slot
        self.state = "starting"  # then ready, draining, gone
        self.drained = ""  # output of the hook
        self.error: Exception | None = None
        self._around = around
        self._should_end = threading.Event()
        ports = {f"{name}_port": port for name, port in slot._asdict().items()}
        self._server = TritonServer(around.repository, **ports)
        self._thread = threading.Thread(target=self._live, daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Let it drain and stop; returns at once."""
        self._should_end.set()

    @property
    def is_ending(self) -> bool:
        """Whether its end was requested."""
        return self._should_end.is_set()

    def kill(self) -> None:
        """Stop at once, whatever it has in hand."""
        self._should_end.set()
        self._server.kill()
        self._thread.join(timeout=30.0)

    def _live(self) -> None:
        try:
            self._start()
            self._serve()
            self._leave()
        except Exception as error:  # Pods.resize raises it
            self.error = error
            self._server.kill()
        finally:
            self.state = "gone"

    def _start(self) -> None:
        self._server.start()
        probe = self._around.life.startup
        for _ in range(probe.failures):
            if self._should_end.is_set() or probe_succeeds(probe, self.slot.http):
                break
            if not self._server.is_running():
                self._server.wait()  # raises, with the reason
            self._should_end.wait(probe.period_s)
        else:
            raise RuntimeError(
                f"Server {self.number + 1} did not become ready in its startup probe's time."
            )

    def _serve(self) -> None:
        probe = self._around.life.readiness
        failures = probe.failures  # not ready before the first success
        while not self._should_end.is_set():
            failures = 0 if probe_succeeds(probe, self.slot.http) else failures + 1
            self._route(failures < probe.failures)
            self._should_end.wait(probe.period_s)

    def _route(self, is_ready: bool) -> None:
        state = "ready" if is_ready else "unready"
        if state != self.state:
            self._around.proxy.set_state(self.number, "ready" if is_ready else "drain")
            self.state = state

    def _leave(self) -> None:
        was_serving = self.state == "ready"
        self.state = "draining"
        proxy, dns_s = self._around.proxy, DNS_S / self._around.time_scale
        close = threading.Timer(dns_s, proxy.set_state, [self.number, "drain"])
        close.start()
        if was_serving:
            self.drained = self._run_hook()
        close.join()
        self._server.stop()
        proxy.set_state(self.number, "maint")

    def _run_hook(self) -> str:
        around = self._around
        metrics = f"http://{LOOPBACK}:{self.slot.metrics}/metrics"
        command = local_hook(around.life.pre_stop, around.hooks, metrics, around.time_scale)
        ended = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=around.life.grace_s
        )
        return ended.stderr.strip() or f"exit code {ended.returncode}"


def local_hook(command: Sequence[str], hooks: Path, metrics: str, time_scale: float) -> list[str]:
    """Return a hook's command for a server of this machine.

    The interpreter, the script and the address are this machine's; `--settle`, which waits for DNS,
    is divided as DNS is here. Everything else stays as the manifest says.
    """
    local = [sys.executable, str(hooks / Path(command[1]).name), f"--metrics={metrics}"]
    for option in command[2:]:
        name, _, value = option.partition("=")
        if name == "--settle":
            local.append(f"{name}={float(value) / time_scale:g}")
        elif name != "--metrics":
            local.append(option)
    return local


def probe_succeeds(probe: Probe, port: int) -> bool:
    """Run an HTTP probe once, as a kubelet does: 200 to 399 is a success."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=probe.timeout_s)
    with closing(connection):
        try:
            connection.request("GET", probe.path, headers={"Connection": "close"})
            return 200 <= connection.getresponse().status < 400
        except (OSError, http.client.HTTPException):
            return False


class Pods:
    """The requested number of servers, in a fixed number of slots."""

    def __init__(
        self, slots: Sequence[Ports], around: PodContext, scrape: Callable[[Sequence[int]], None]
    ) -> None:
        self.drains: list[str] = []  # output of the hooks of the servers that ended
        self._slots, self._around, self._scrape = slots, around, scrape
        self._pods: list[Pod] = []

    def resize(self, count: int) -> None:
        """Start or end servers until `count` are neither ending nor gone; the newest end first."""
        gone = [pod for pod in self._pods if pod.state == "gone"]
        self.drains += [pod.drained for pod in gone if pod.drained]
        self._pods = [pod for pod in self._pods if pod not in gone]
        for pod in gone:
            if pod.error:
                raise RuntimeError(f"Server {pod.number + 1} ended by itself: {pod.error}")
        staying = [pod for pod in self._pods if not pod.is_ending]
        for pod in staying[count:]:
            pod.end()
        taken = {pod.number for pod in self._pods}
        free = [number for number in range(len(self._slots)) if number not in taken]
        for number in free[: max(count - len(staying), 0)]:
            self._pods.append(Pod(number, self._slots[number], self._around))
        self._scrape([pod.slot.metrics for pod in self._pods])

    def count(self, *states: str) -> int:
        """How many servers are in one of these states."""
        return sum(pod.state in states for pod in self._pods)

    def kill(self) -> None:
        """Stop all at once."""
        for pod in self._pods:
            pod.end()
        for pod in self._pods:
            pod.kill()
