"""What the servers of one test have left behind; TMPDIR is a folder `scratch` of that test."""

import contextlib
from pathlib import Path


def scratch_names(folder: Path) -> list[str]:
    """The names of the servers' scratch folders."""
    return [each.name for each in (folder / "scratch").iterdir()]


def regions(names: list[str]) -> list[str]:
    """The shared memory of the servers with these scratch folders."""
    return [str(region) for name in names for region in Path("/dev/shm").glob(f"{name}*")]


def processes(folder: Path) -> dict[int, str]:
    """The command lines of all processes of this test, by process id."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has just ended
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            if str(folder) in command:
                found[int(process.name)] = command
    return found


def process_of(folder: Path, words: str) -> int:
    """The one process whose program ends with these words."""
    found = processes(folder).items()
    (number,) = [number for number, command in found if command.split()[0].endswith(words)]
    return number


def leftovers(folder: Path, names: list[str]) -> list[str]:
    """Processes, shared memory regions and scratch folders that are still there."""
    return [*processes(folder).values(), *regions(names), *scratch_names(folder)]
