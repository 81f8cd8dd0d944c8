"""Memory and processor time of a server's processes. One that has ended counts as nothing."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import psutil

STUB = "triton_python_backend_stub"


def descendants(pid: int | None = None) -> list[int]:
    """The processes that `pid`, or this process, started, and those that these started."""
    return [child.pid for child in psutil.Process(pid).children(recursive=True)]


def memory_mb(pids: Iterable[int]) -> float:
    """Resident megabytes (10^6 bytes) of these together, shared pages counted once (PSS)."""
    held = [_ask(pid, lambda process: process.memory_full_info()) for pid in pids]
    return float(sum(memory.pss for memory in held if memory) / 1e6)


def cpu_by_role(pids: Iterable[int]) -> dict[str, float]:
    """Processor seconds so far, user and system, of all processes of one role together."""
    total: dict[str, float] = {}
    for pid in pids:
        if times := _ask(pid, lambda process: process.cpu_times()):
            total[role(pid)] = total.get(role(pid), 0.0) + times.user + times.system
    return total


def role(pid: int) -> str:
    """The Triton model whose Python process this is, else the program's name."""
    try:
        program, *arguments = psutil.Process(pid).cmdline()
    except (psutil.Error, ValueError):
        return "ended"
    if Path(program).name != STUB:
        return Path(program).name
    return Path(arguments[0]).parents[1].name  # REPOSITORY/MODEL/VERSION/model.py


def _ask(pid: int, question: Callable[[psutil.Process], Any]) -> Any:
    try:
        return question(psutil.Process(pid))
    except psutil.Error:
        return None
