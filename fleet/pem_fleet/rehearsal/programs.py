"""Programs beside this one that end with it: HAProxy, Prometheus, locust."""

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

PR_SET_PDEATHSIG = 1  # from linux/prctl.h
PATIENCE_S = 10.0  # until SIGKILL


class ProgramError(RuntimeError):
    """A program ended by itself or does not do as it should; one sentence."""


@contextlib.contextmanager
def running(command: Sequence[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program for the length of a block; its output goes to `log`.

    It has a session of its own, so that a Ctrl-C in the terminal reaches this process alone, and
    it dies with the thread that entered the block, however that ends.
    """
    with log.open("wb") as output:
        program = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )
        try:
            yield program
        finally:
            _end(program)


def wait_until(
    is_true: Callable[[], bool], program: subprocess.Popen[bytes], log: Path, name: str
) -> None:
    """Return when `is_true`; ProgramError with the end of the log when that does not come."""
    deadline = time.monotonic() + 60.0
    while not is_true():
        if program.poll() is not None or time.monotonic() > deadline:
            last = " | ".join(log.read_text(errors="replace").splitlines()[-3:])
            raise ProgramError(f"{name} did not start: {last or 'it logged nothing'}")
        time.sleep(0.1)


def _end(program: subprocess.Popen[bytes]) -> None:
    if program.poll() is None:
        program.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            program.wait(PATIENCE_S)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(program.pid, signal.SIGKILL)  # and what it started
    program.wait()


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
