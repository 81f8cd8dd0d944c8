"""What a server's processes use: their memory, shared pages counted once, and processor time.

All read from /proc, so Linux only. A process that ends while it is looked at counts as nothing.
"""

import os
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
TICKS = os.sysconf("SC_CLK_TCK")  # of processor time, a second
SERVER, STUB = "tritonserver", "triton_python_backend_stub"


@dataclass(frozen=True)
class Memory:
    """Megabytes (10^6 bytes) of one process or of several together."""

    rss: float  # resident, shared pages counted in every process
    pss: float  # resident, shared pages divided among those that share them
    shared: float  # of pss: shared memory, by which tensors travel

    def __add__(self, other: "Memory") -> "Memory":
        return Memory(self.rss + other.rss, self.pss + other.pss, self.shared + other.shared)


def descendants(pid: int) -> list[int]:
    """The processes that `pid` started, and those that these started."""
    children: dict[int, list[int]] = {}
    for folder in PROC.iterdir():
        if folder.name.isdigit() and (parent := _parent(int(folder.name))) is not None:
            children.setdefault(parent, []).append(int(folder.name))
    found, left = list[int](), [pid]
    while left:
        mine = children.get(left.pop(), [])
        found += mine
        left += mine
    return found


def memory(pids: list[int]) -> Memory:
    """Of these processes together."""
    total = Memory(0.0, 0.0, 0.0)
    for pid in pids:
        total += parse_rollup(_read(pid, "smaps_rollup"))
    return total


def parse_rollup(text: str) -> Memory:
    """The figures of one /proc/PID/smaps_rollup; zeros for an empty text."""
    kilobytes = {
        name: float(rest.split()[0])
        for name, _, rest in (line.partition(":") for line in text.splitlines())
        if rest.endswith(" kB")
    }
    names = ("Rss", "Pss", "Pss_Shmem")
    return Memory(*(kilobytes.get(name, 0.0) * 1024 / 1e6 for name in names))


def cpu_seconds(pid: int) -> float:
    """User and system time of a process, its threads included, since it began."""
    fields = _read(pid, "stat").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS if fields else 0.0


def role(pid: int) -> str:
    """The Triton model whose Python process this is, else the program's name."""
    program = _program(pid)
    if program != STUB:
        return program
    model_file = _read(pid, "cmdline").split("\0")[1]  # REPOSITORY/MODEL/VERSION/model.py
    return Path(model_file).parents[1].name


def server_processes(pid: int) -> dict[int, str]:
    """The tritonservers that `pid` started and their Python steps, by process, with their role."""
    roles = {each: role(each) for each in descendants(pid)}
    steps = {each for each in roles if _program(each) == STUB}
    return {each: name for each, name in roles.items() if each in steps or name == SERVER}


def seconds_by_role(pids: list[int]) -> dict[str, float]:
    """Processor seconds so far, of all processes of one role together."""
    total: dict[str, float] = {}
    for pid in pids:
        total[role(pid)] = total.get(role(pid), 0.0) + cpu_seconds(pid)
    return total


def _program(pid: int) -> str:
    return Path(_read(pid, "cmdline").split("\0")[0]).name


def _parent(pid: int) -> int | None:
    fields = _read(pid, "stat").rpartition(")")[2].split()
    return int(fields[1]) if fields else None


def _read(pid: int, name: str) -> str:
    try:
        return (PROC / str(pid) / name).read_text(errors="replace")
    except OSError:  # it has ended
        return ""
