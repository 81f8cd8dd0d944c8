"""The real tritonserver of the installed nvidia-pytriton on loopback, from start to clean-up.

It runs during one block; `grpc_url`, `http_url` and `metrics_url` are its addresses:

    with TritonServer(Path("model_repository")) as server:
        server.wait_until_ready()
"""

from __future__ import annotations

import contextlib
import http.client
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, Self

from pem_server import machine_check, server_log, supervisor, triton_install
from pem_server.ports import LOOPBACK, free_ports
from pem_server.stub_network import Cost, write_stub_repository

LAST_LINES = 300  # of the log, kept for the reason of a failure
WAIT_INTERVAL_S = 1.0
GRACE_AFTER_TIMEOUT_S = 5.0  # Triton's own time limit covers requests, not its shutdown
# A step frees megabytes after each image and allocates them again for the next. By default glibc
# returns them to the system in between, and every page then costs a fault: 2 ms per image of
# 640x480. With these, each process keeps up to the second number of bytes, and returns only arrays
# larger than the first. The user's own settings take precedence.
KEEP_FREED_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20),  # the greatest that every glibc takes
    "MALLOC_TRIM_THRESHOLD_": str(64 * 2**20),
}


class LocalServerError(RuntimeError):
    """The server could not start, did not become ready or exited; one sentence per problem."""


class TritonServer:
    """One tritonserver with its own scratch folder, shared memory names and process group.

    The context manager starts and stops it; after Ctrl-C it does not wait for requests. The server
    also ends when this process does, even when it is killed. Port 0 picks a free one. `on_log` is
    called with every line of the server's log, in a separate thread. `config_name` selects
    configs/NAME.pbtxt of each model that has it. `stub_network`: serve a copy of the repository, in
    the scratch folder, whose network is a stub of this cost. `exit_timeout_s`: how long a stop
    waits for requests; an idle HTTP connection uses all of it.
    """

    def __init__(
        self,
        repository: Path,
        *,
        http_port: int = 0,
        grpc_port: int = 0,
        metrics_port: int = 0,
        config_name: str | None = None,
        stub_network: Cost | None = None,
        verbose: bool = False,
        exit_timeout_s: int = 5,
        on_log: Callable[[str], None] | None = None,
    ) -> None:
        self.repository = repository.resolve()
        spare = free_ports(3)
        self.http_port = http_port or spare[0]
        self.grpc_port = grpc_port or spare[1]
        self.metrics_port = metrics_port or spare[2]
        self.http_url = f"{LOOPBACK}:{self.http_port}"
        self.grpc_url = f"{LOOPBACK}:{self.grpc_port}"
        self.metrics_url = f"http://{LOOPBACK}:{self.metrics_port}/metrics"  # for Prometheus
        self._config_name = config_name
        self._stub_network = stub_network
        self._verbose = verbose
        self._exit_timeout_s = exit_timeout_s
        self._on_log = on_log
        self._log: deque[str] = deque(maxlen=LAST_LINES)
        self._scratch: Path | None = None
        self._supervisor: subprocess.Popen[bytes] | None = None
        self._log_reader = threading.Thread(target=self._read_log, daemon=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is KeyboardInterrupt:
            self.kill()
        else:
            self.stop()

    def start(self) -> None:
        """Start the server and return at once. LocalServerError when this machine cannot run it."""
        if self._supervisor:
            raise LocalServerError("TritonServer cannot be restarted; create a new one.")
        ports = (self.http_port, self.grpc_port, self.metrics_port)
        if problems := machine_check.machine_problems(*ports):
            raise LocalServerError("\n".join(problems))
        self._scratch = triton_install.new_scratch()
        try:
            self._supervisor = self._start_supervisor(self._scratch)
        except BaseException:
            supervisor.remove_leftovers(self._scratch)
            raise
        self._log_reader.start()

    def _start_supervisor(self, scratch: Path) -> subprocess.Popen[bytes]:
        if self._stub_network:
            stub = scratch / self.repository.name
            write_stub_repository(self.repository, stub, self._stub_network)
            self.repository = stub
        limit = self._exit_timeout_s + GRACE_AFTER_TIMEOUT_S
        supervise = [sys.executable, "-I", "-S", supervisor.__file__, str(scratch), str(limit)]
        return subprocess.Popen(
            supervise + self._command(scratch),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=scratch / "empty",
            env={**KEEP_FREED_MEMORY, **triton_install.environment()},
            start_new_session=True,  # a Ctrl-C in the terminal reaches this process only
        )

    def wait_until_ready(self, timeout_s: float = 120.0) -> None:
        """Return when all models are loaded and warm; LocalServerError when they cannot be."""
        deadline = time.monotonic() + timeout_s
        while not self.is_ready():
            if not self.is_running():
                raise LocalServerError(self.why_ended("did not start"))
            if time.monotonic() > deadline:
                raise LocalServerError(
                    f"tritonserver was not ready after {timeout_s:g} s; its log (--verbose) shows "
                    "the model that it is still loading."
                )
            time.sleep(0.05)

    def is_ready(self) -> bool:
        """Ask the server whether all models are loaded and warm."""
        return _answers_ready(self.http_port)

    def is_running(self) -> bool:
        """Whether the server was started and has not exited."""
        return self._supervisor is not None and self._supervisor.poll() is None

    def wait(self) -> NoReturn:
        """Wait forever; LocalServerError when the server exits by itself."""
        assert self._supervisor, "start() comes first"
        # At intervals: an endless wait would miss a Ctrl-C that arrives just before it.
        while self.is_running():
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._supervisor.wait(timeout=WAIT_INTERVAL_S)
        raise LocalServerError(self.why_ended("exited by itself"))

    def stop(self) -> None:
        """Stop gracefully and wait for it; Ctrl-C in the meantime kills the server."""
        if not self._supervisor:
            return
        try:
            self._request_stop()
            self._supervisor.wait()
        finally:
            self.kill()

    def kill(self) -> None:
        """Stop at once; requests in flight are lost, but nothing is left behind."""
        if not self._supervisor or not self._supervisor.stdin:
            return
        with contextlib.suppress(BrokenPipeError):
            self._supervisor.stdin.close()
        self._supervisor.send_signal(signal.SIGCONT)  # one that was stopped cannot clean up
        if self._supervisor.wait() < 0 and self._scratch:
            supervisor.clean_up(self._scratch)  # it was killed and could not
        self._log_reader.join()

    def _request_stop(self) -> None:
        assert self._supervisor
        assert self._supervisor.stdin
        with contextlib.suppress(BrokenPipeError, ValueError):  # it has exited, or was killed
            self._supervisor.stdin.write(b"stop\n")
            self._supervisor.stdin.flush()

    def _command(self, scratch: Path) -> list[str]:
        command = [
            str(triton_install.triton_folder() / "bin" / "tritonserver"),
            f"--model-repository={self.repository}",
            f"--backend-directory={scratch / 'backends'}",
            # This release has known security holes: only this machine may reach it.
            f"--http-address={LOOPBACK}",
            f"--grpc-address={LOOPBACK}",
            f"--metrics-address={LOOPBACK}",
            f"--http-port={self.http_port}",
            f"--grpc-port={self.grpc_port}",
            f"--metrics-port={self.metrics_port}",
            "--disable-auto-complete-config",
            "--strict-readiness=true",
            "--model-control-mode=none",
            f"--exit-timeout-secs={self._exit_timeout_s}",
            # The supervisor removes the regions named after the scratch folder, and no others.
            f"--backend-config=python,shm-region-prefix-name={scratch.name}-",
            # No GPU is used; without these each start warns that there is none.
            "--allow-gpu-metrics=false",
            "--pinned-memory-pool-byte-size=0",
            f"--log-info={'true' if self._verbose else 'false'}",
        ]
        if self._config_name:
            command.append(f"--model-config-name={self._config_name}")
        return command

    def _read_log(self) -> None:
        assert self._supervisor
        assert self._supervisor.stdout
        with self._supervisor.stdout as stream:
            for raw in stream:
                line = raw.decode(errors="replace").rstrip("\n")
                self._log.append(line)
                if self._on_log:
                    # A closed terminal must not stop this loop: a full pipe blocks the server.
                    with contextlib.suppress(OSError):
                        self._on_log(line)

    @property
    def pid(self) -> int:
        """The supervisor's process, whose descendants are tritonserver and its Python steps."""
        assert self._supervisor, "start() comes first"
        return self._supervisor.pid

    def why_ended(self, what: str = "exited by itself") -> str:
        """One sentence about a server that no longer runs."""
        assert self._supervisor
        self._log_reader.join()
        code, lines = self._supervisor.returncode, list(self._log)
        reason = server_log.causes(lines)
        if not reason and (code > 128 or code < 0):  # what it logged last is not the reason
            name = signal.Signals(code - 128 if code > 128 else -code).name
            return f"tritonserver {what} (exit code {code}, {name})."
        reason = reason or server_log.last_error(lines) or "it logged nothing"
        return f"tritonserver {what} (exit code {code}): {reason}."


def _answers_ready(port: int) -> bool:
    """Over a new connection each time: an open one would delay the server's stop."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=2.0)
    with contextlib.closing(connection):
        try:
            connection.request("GET", "/v2/health/ready", headers={"Connection": "close"})
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
