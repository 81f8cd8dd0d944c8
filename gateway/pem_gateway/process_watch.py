"""Whether tritonserver and the processes of its Python steps are alive and moving, without asking.

Triton's own health endpoint stays at 200 when a step's process has died or stands still
(triton-inference-server/server#8604).
"""

import os
import select
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

STUB = "triton_python_backend_stub"
STOPPED_S = 0.5  # a process stopped for longer loses requests; shorter stops pass without harm
STOPPED = "Tt"


@dataclass
class _Watched:
    pid: int
    pidfd: int  # readable once the process has ended, and no other process's after that
    name: str
    stopped_since: float | None = None


class ProcessWatch:
    """The processes of one server that is ready, while the block lasts."""

    def __init__(self, pid: int, clock: Callable[[], float] = time.monotonic) -> None:
        """`pid` is that of the supervisor, which has the others among its descendants."""
        self._clock = clock
        self._ended = select.poll()
        self._watched: list[_Watched] = []
        self._missed: str | None = None  # a process that ended before it could be watched
        self._add(pid, "the supervisor")
        try:
            for child in psutil.Process(pid).children(recursive=True):
                self._add(child.pid, _name(child))
        except psutil.NoSuchProcess:
            self._missed = "a process of the server"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for each in self._watched:
            os.close(each.pidfd)

    def problem(self) -> str | None:
        """A few words about a process that is dead or stands still, None while all is well."""
        if self._missed:
            return f"{self._missed} has died"
        if ended := {pidfd for pidfd, _ in self._ended.poll(0)}:
            # tritonserver's end is the cause of that of its steps.
            return f"{next(each.name for each in self._watched if each.pidfd in ended)} has died"
        now = self._clock()
        for each in self._watched:
            if _state(each.pid) not in STOPPED:
                each.stopped_since = None
            elif each.stopped_since is None:
                each.stopped_since = now
            elif now - each.stopped_since >= STOPPED_S:
                return f"{each.name} stands still"
        return None

    def _add(self, pid: int, name: str) -> None:
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            self._missed = name
            return
        self._ended.register(pidfd, select.POLLIN)
        self._watched.append(_Watched(pid, pidfd, name))


def _state(pid: int) -> str:
    """The letter of proc(5): R, S, D, T, ...; X where there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return "X"
    return chr(stat[stat.rindex(b")") + 2])


def _name(process: psutil.Process) -> str:
    """The step of a stub, by the path of its model.py; else the name of the program."""
    command = process.cmdline()
    if command and Path(command[0]).name == STUB and len(command) > 1:
        return f"the process of {Path(command[1]).parents[1].name}"
    return str(process.name())
