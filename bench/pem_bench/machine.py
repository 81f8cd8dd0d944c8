"""What the numbers were measured on; without it they mean nothing."""

import os
import platform
import subprocess
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("onnxruntime", "openvino", "torch", "tensorrt", "numpy")
BUSY = 0.2  # of a core: above it a timing says little


def describe_machine() -> dict[str, object]:
    """Processor, cores, memory, GPUs, versions, and the load: how many cores are busy just now."""
    return {
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "gpus": gpus(),
        "python": platform.python_version(),
        "packages": {name: found for name in PACKAGES if (found := installed(name))},
        "load": round(busy_cores(), 2),
    }


def busy_cores(seconds: float = 0.5, stat: Path = Path("/proc/stat")) -> float:
    """How many cores of the machine are at work during so many seconds; 0 where nothing tells.

    The system's own load is of the last minute: after a measurement it still holds that one's.
    """
    before = processor_ticks(stat)
    time.sleep(seconds)
    total, idle = (
        after - first for after, first in zip(processor_ticks(stat), before, strict=True)
    )
    return (os.cpu_count() or 1) * (1 - idle / total) if total else 0.0


def processor_ticks(stat: Path) -> tuple[int, int]:
    """All ticks of all cores since the start, and those in which they had nothing to do."""
    try:
        ticks = [int(each) for each in stat.read_text(encoding="utf-8").split()[1:9]]
    except OSError:
        return 0, 0
    return sum(ticks), ticks[3] + ticks[4]  # idle, and waiting for a disk


def machine_line(machine: dict[str, object]) -> str:
    packages = machine["packages"]
    assert isinstance(packages, dict)
    gpu_names = machine["gpus"]
    assert isinstance(gpu_names, list)
    return (
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB; "
        f"{', '.join(gpu_names) or 'no NVIDIA GPU'}; "
        + ", ".join(f"{name} {number}" for name, number in packages.items())
    )


def busy_warning(machine: dict[str, object]) -> str | None:
    """A sentence if the machine has other things to do."""
    load, cores = machine["load"], machine["cores"]
    assert isinstance(load, float)
    assert isinstance(cores, int)
    if load <= BUSY * cores:
        return None
    return (
        f"This machine was busy when the measurement began (load {load} on {cores} cores): these "
        "times say little; repeat them when it is quiet."
    )


def processor() -> str:
    """The processor's own name where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return " ".join(names[0].split()) if names else platform.machine()


def gpus() -> list[str]:
    """Name, memory and driver of each NVIDIA GPU; empty without one."""
    command = [
        "nvidia-smi",
        "--query-gpu=name,memory.total,driver_version",
        "--format=csv,noheader",
    ]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in answer.stdout.splitlines() if line.strip()]


def installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
