"""What the numbers were measured on; without it they mean nothing."""

import os
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

PACKAGES = ("onnxruntime", "openvino", "torch", "tensorrt", "numpy")
BUSY = 0.2  # of all cores: above it a timing says little


def describe_machine() -> dict[str, Any]:
    """Processor, cores, memory, GPUs, versions, and how many cores are busy just now."""
    return {
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "gpus": gpus(),
        "packages": {name: found for name in PACKAGES if (found := installed(name))},
        "load": round(busy_cores(), 2),
    }


def busy_cores(seconds: float = 0.5) -> float:
    """Cores at work during this time; the load average still holds the minute before."""
    return float(psutil.cpu_percent(seconds)) / 100 * (os.cpu_count() or 1)


def machine_line(machine: Mapping[str, Any]) -> str:
    return (
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB; "
        f"{', '.join(machine['gpus']) or 'no NVIDIA GPU'}; "
        + ", ".join(f"{name} {number}" for name, number in machine["packages"].items())
    )


def busy_warning(machine: Mapping[str, Any]) -> str | None:
    """A sentence if the machine has other things to do."""
    load, cores = machine.get("load", 0), machine.get("cores", 1)
    if load <= BUSY * cores:
        return None
    return (
        f"This machine was busy when the measurement began (load {load} on {cores} cores): these "
        "times mean little; repeat them on an idle machine."
    )


def processor() -> str:
    """The processor's own name where the system has it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return " ".join(names[0].split()) if names else platform.machine()


def gpus() -> list[str]:
    """Name, memory and driver of each NVIDIA GPU; empty without one."""
    query = "--query-gpu=name,memory.total,driver_version"
    command = ["nvidia-smi", query, "--format=csv,noheader"]
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
