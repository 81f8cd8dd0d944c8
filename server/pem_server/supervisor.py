"""Runs one tritonserver and cleans up after it, however the launcher ends.

A separate program between launcher and server, because a killed launcher cannot clean up, and
tritonserver 2.51 leaves Python steps and shared memory behind when it is killed, when it stops with
a client still connected, and when it cannot bind a port.

    python -I -S supervisor.py SCRATCH GRACE_S COMMAND...

It is controlled by standard input. A line: stop the server with SIGTERM, and kill it after GRACE_S
seconds. End of file, also caused by a dead launcher: kill it at once. Either way, and when the
server exits by itself, the supervisor kills the rest of its process group and removes the folder
SCRATCH and all shared memory named after it. The exit code is the server's. Standard library only.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")
PR_SET_PDEATHSIG = 1  # from linux/prctl.h
PR_SET_CHILD_SUBREAPER = 36


def main(arguments: list[str]) -> int:
    """Run the command to its end and return its exit code, 128 + N for signal N."""
    scratch, grace_s, command = Path(arguments[0]), float(arguments[1]), arguments[2:]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # Only standard input controls it. A handler, since SIG_IGN would be inherited.
        signal.signal(number, lambda *_: None)
    # Python steps that outlive the server become children of this process, so it can reap them.
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    try:
        return _run(command, grace_s)
    finally:
        remove_leftovers(scratch)


def clean_up(scratch: Path) -> None:
    """Do a killed supervisor's work: end the processes that name its scratch folder, remove it."""
    # tritonserver dies with the supervisor, and its steps notice that only after a while.
    while numbers := list(_processes_of(scratch)):
        for number in numbers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        time.sleep(0.02)
    remove_leftovers(scratch)


def _processes_of(scratch: Path) -> Iterator[int]:
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has just ended; a zombie's is empty
            if scratch.name.encode() in command.read_bytes():
                yield int(command.parent.name)


def remove_leftovers(scratch: Path) -> None:
    """Remove the scratch folder and the shared memory regions whose names start with its name."""
    for region in SHARED_MEMORY.glob(f"{scratch.name}*"):
        region.unlink(missing_ok=True)
    shutil.rmtree(scratch, ignore_errors=True)


def _run(command: list[str], grace_s: float) -> int:
    server = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, process_group=0, preexec_fn=_die_with_parent
    )
    control, exited = sys.stdin.fileno(), os.pidfd_open(server.pid)
    ready, _, _ = select.select([control, exited], [], [])
    if exited not in ready and os.read(control, 100):
        server.terminate()
        select.select([control, exited], [], [], grace_s)
    # The server is not reaped yet, so its process id still names its own group.
    os.killpg(server.pid, signal.SIGKILL)
    code = server.wait()
    _reap_orphans()
    return code if code >= 0 else 128 - code


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _reap_orphans(timeout_s: float = 5.0) -> None:
    """Wait until the killed Python steps are gone and have released their shared memory."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            process, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if process == 0:
            time.sleep(0.02)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
