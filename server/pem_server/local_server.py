"""The real tritonserver of the installed nvidia-pytriton on loopback, from start to nothing left.

One block is its life; inside, `grpc_url`, `http_url` and `metrics_url` tell where it listens:

    with TritonServer(Path("model_repository")) as server:
        server.wait_until_ready()
"""

from __future__ import annotations

import contextlib
import http.client
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self

from pem_server import repository_check, server_log, supervisor, triton_install
from pem_server.ports import LOOPBACK, free_ports

LAST_LINES = 300  # of the log, kept to tell why a server ended
WAIT_TURN_S = 1.0
GRACE_AFTER_TIMEOUT_S = 5.0  # Triton's own time limit covers requests, not its last steps
# A step frees megabytes after each image and wants them back at the next. By default glibc gives
# them to the system in between, and every page then costs a fault: 2 ms an image of 640x480. What
# is kept is up to the second number, in bytes, for each process; larger arrays than the first are
# given back. The user's own settings go before.
KEEP_FREED_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20),  # the greatest that every glibc takes
    "MALLOC_TRIM_THRESHOLD_": str(64 * 2**20),
}


class LocalServerError(RuntimeError):
    """The server could not start, did not become ready or ended by itself; a sentence a reason."""


class TritonServer:
    """One tritonserver with its own scratch folder, shared memory names and process group.

    The context manager starts and stops it, without waiting for requests when it is left by
    Ctrl-C. The server ends with this process too, even when this process is killed. Port 0 stands
    for a free one. `on_log` gets every line of the server's log, in a thread of its own.
    `config_name` picks configs/NAME.pbtxt of each model that has it.
    `exit_timeout_s`: how long a stop waits for requests; an idle HTTP connection costs all of it.
    """

    def __init__(
        self,
        repository: Path,
        *,
        http_port: int = 0,
        grpc_port: int = 0,
        metrics_port: int = 0,
        config_name: str | None = None,
        verbose: bool = False,
        exit_timeout_s: int = 5,
        on_log: Callable[[str], None] | None = None,
    ) -> None:
        self.repository = repository.resolve()
        spare = free_ports(3)
        self.http_port = http_port or spare[0]
        self.grpc_port = grpc_port or spare[1]
        self.metrics_port = metrics_port or spare[2]
        self._config_name = config_name
        self._verbose = verbose
        self._exit_timeout_s = exit_timeout_s
        self._on_log = on_log
        self._log: deque[str] = deque(maxlen=LAST_LINES)
        self._warden: subprocess.Popen[bytes] | None = None
        self._log_reader = threading.Thread(target=self._read_log, daemon=True)

    @property
    def http_url(self) -> str:
        """HOST:PORT of the HTTP endpoint."""
        return f"{LOOPBACK}:{self.http_port}"

    @property
    def grpc_url(self) -> str:
        """HOST:PORT of the gRPC endpoint."""
        return f"{LOOPBACK}:{self.grpc_port}"

    @property
    def metrics_url(self) -> str:
        """The address Prometheus reads."""
        return f"http://{LOOPBACK}:{self.metrics_port}/metrics"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is KeyboardInterrupt:
            self.kill()
        else:
            self.stop()

    def start(self) -> None:
        """Start the server and return at once. LocalServerError when this machine cannot run it."""
        if self._warden:
            raise LocalServerError("A TritonServer starts once: make a new one to start again.")
        ports = (self.http_port, self.grpc_port, self.metrics_port)
        if problems := repository_check.machine_problems(*ports):
            raise LocalServerError("\n".join(problems))
        scratch = triton_install.new_scratch()
        limit = self._exit_timeout_s + GRACE_AFTER_TIMEOUT_S
        guard = [sys.executable, "-I", "-S", supervisor.__file__, str(scratch), str(limit)]
        self._warden = subprocess.Popen(
            guard + self._command(scratch),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=scratch / "empty",
            env={**KEEP_FREED_MEMORY, **triton_install.environment()},
            start_new_session=True,  # a Ctrl-C in the terminal reaches this process only
        )
        self._log_reader.start()

    def wait_until_ready(self, timeout_s: float = 120.0) -> None:
        """Return when all models are loaded and warm; LocalServerError when they cannot be."""
        deadline = time.monotonic() + timeout_s
        while not _answers_ready(self.http_port):
            if not self.is_running():
                raise LocalServerError(self._why_ended("did not start"))
            if time.monotonic() > deadline:
                raise LocalServerError(
                    f"tritonserver was not ready after {timeout_s:g} s: see its log, "
                    "with --verbose, for the model it is still loading."
                )
            time.sleep(0.05)

    def is_running(self) -> bool:
        """Whether the server was started and has not ended."""
        return self._warden is not None and self._warden.poll() is None

    def wait(self) -> NoReturn:
        """Wait for ever; LocalServerError when the server ends by itself."""
        assert self._warden, "start() comes first"
        # In turns: a Ctrl-C just before a wait without end would be noticed only after it.
        while self.is_running():
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._warden.wait(timeout=WAIT_TURN_S)
        raise LocalServerError(self._why_ended("ended by itself"))

    def stop(self) -> None:
        """Stop politely and wait for it; an interruption on the way (Ctrl-C) kills instead."""
        if not self._warden:
            return
        try:
            self._order(b"stop\n")
            self._warden.wait()
        finally:
            self.kill()

    def kill(self) -> None:
        """Stop at once; requests in flight are lost. Nothing is left behind here either."""
        if not self._warden or not self._warden.stdin:
            return
        with contextlib.suppress(BrokenPipeError):
            self._warden.stdin.close()
        self._warden.wait()
        self._log_reader.join()

    def _order(self, order: bytes) -> None:
        assert self._warden
        assert self._warden.stdin
        with contextlib.suppress(BrokenPipeError, ValueError):  # it has ended, or was killed
            self._warden.stdin.write(order)
            self._warden.stdin.flush()

    def _command(self, scratch: Path) -> list[str]:
        command = [
            str(triton_install.triton_folder() / "bin" / "tritonserver"),
            f"--model-repository={self.repository}",
            f"--backend-directory={scratch / 'backends'}",
            # This release has known security holes: nothing but this machine may reach it.
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
            # Regions carry the name of the scratch folder: the warden removes these and no other's.
            f"--backend-config=python,shm-region-prefix-name={scratch.name}-",
            # No GPU is used, and without these each start complains that there is none.
            "--allow-gpu-metrics=false",
            "--pinned-memory-pool-byte-size=0",
            f"--log-info={'true' if self._verbose else 'false'}",
        ]
        if self._config_name:
            command.append(f"--model-config-name={self._config_name}")
        return command

    def _read_log(self) -> None:
        assert self._warden
        assert self._warden.stdout
        with self._warden.stdout as stream:
            for raw in stream:
                line = raw.decode(errors="replace").rstrip("\n")
                self._log.append(line)
                if self._on_log:
                    # A log nobody reads, because the terminal is closed, would block the server.
                    with contextlib.suppress(OSError):
                        self._on_log(line)

    def _why_ended(self, what: str) -> str:
        assert self._warden
        self._log_reader.join()
        lines = list(self._log)
        reason = server_log.causes(lines) or server_log.last_words(lines) or "it left no word"
        return f"tritonserver {what} (exit code {self._warden.returncode}): {reason}."


def _answers_ready(port: int) -> bool:
    """Ask over a connection of its own: one kept open would delay the server's stop."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=2.0)
    with contextlib.closing(connection):
        try:
            connection.request("GET", "/v2/health/ready", headers={"Connection": "close"})
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
