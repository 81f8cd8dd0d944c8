"""Whether tritonserver and the processes of its Python steps are alive and moving, without asking.

Triton's own health endpoint stays at 200 when a step's process has died or stands still
(triton-inference-server/server#8604).
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

STUB = "triton_python_backend_stub"
STOPPED_S = 0.5  # a process stopped for longer loses requests; shorter stops pass without harm
STOPPED, GONE = "Tt", "ZX"


@dataclass
class _Watched:
    pid: int
    name: str
    stopped_since: float | None = field(default=None)


class ProcessWatch:
    """The processes of one server that is ready."""

    def __init__(self, pid: int, clock: Callable[[], float] = time.monotonic) -> None:
        """`pid` is that of tritonserver, or of a process that holds it among its descendants."""
        self._clock = clock
        self._watched = [_Watched(pid, "tritonserver")] + [
            _Watched(child.pid, _name(child))
            for child in psutil.Process(pid).children(recursive=True)
        ]

    def problem(self) -> str | None:
        """One sentence about a process that is dead or stands still, None while all is well."""
        now = self._clock()
        for each in self._watched:
            state = _state(each.pid)
            if state in GONE:
                return f"the process of {each.name} has died"
            if state not in STOPPED:
                each.stopped_since = None
            elif each.stopped_since is None:
                each.stopped_since = now
            elif now - each.stopped_since >= STOPPED_S:
                return f"the process of {each.name} stands still"
        return None


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
        return Path(command[1]).parents[1].name
    return str(process.name())
