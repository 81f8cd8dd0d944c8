"""This machine: its GPUs, its driver, and its TensorRT libraries.

Read from the libraries themselves, through ctypes: the server will load the same ones, they obey
CUDA_VISIBLE_DEVICES, and they exist wherever an engine can run. nvidia-smi may be missing, and
neither it nor NVML's list of GPUs obeys that variable.

    python -m pemtrt.gpu_info               # everything
    python -m pemtrt.gpu_info --tensorrt    # the version of the server's TensorRT; needs no GPU
"""

import argparse
import ctypes
import importlib
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from pem_server.console import log
from pemtrt.manifest import EngineError

# Its place in NVIDIA's image; elsewhere the server gets --backend-directory.
BACKEND = Path("/opt/tritonserver/backends/tensorrt/libtriton_tensorrt.so")
DRIVER_FILE = Path("/proc/driver/nvidia/version")
COMPUTE_CAPABILITY_MAJOR, COMPUTE_CAPABILITY_MINOR = 75, 76  # of CUdevice_attribute
NAME_LENGTH = 256
INSTALL_TENSORRT = (
    "in the serving image, pip install --no-deps tensorrt-cu13-bindings==VERSION with the version "
    "that python -m pemtrt.gpu_info --tensorrt prints; these bindings use the server's own "
    "libnvinfer, whereas the package tensorrt brings another"
)


@dataclass(frozen=True)
class Gpu:
    """One GPU as CUDA shows it to this process."""

    name: str  # "Tesla T4"
    capability: str  # "7.5"


@dataclass(frozen=True)
class Machine:
    """What an engine has to match."""

    gpus: tuple[Gpu, ...]
    driver: str  # "580.95.05"
    tensorrt: str  # "10.16.1.11": the library of the server's backend


def this_machine(backend: Path = BACKEND) -> Machine:
    """The GPUs, the driver and the TensorRT that a server here would use. EngineError."""
    return Machine(visible_gpus(), driver_version(), library_version(server_library(backend)))


def visible_gpus() -> tuple[Gpu, ...]:
    """The GPUs that a program started here would see, in CUDA's order. EngineError without one."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise EngineError(
            "an engine needs an NVIDIA GPU with its driver, but libcuda.so.1 was not found; run "
            "this on the GPU machine, in a container with --gpus all"
        ) from error
    count = ctypes.c_int()
    code = cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count))
    if code or not count.value:
        found = f"the driver returned CUDA error {code}" if code else "CUDA found none"
        raise EngineError(
            f"an engine needs an NVIDIA GPU, but {found}; check nvidia-smi, CUDA_VISIBLE_DEVICES "
            "and, in a container, --gpus all"
        )
    return tuple(_gpu(cuda, ordinal) for ordinal in range(count.value))


def driver_version() -> str:
    """The kernel driver's version, from NVML or from /proc. EngineError when neither has it."""
    version = _driver_from_nvml() or _driver_from_file()
    if not version:
        raise EngineError(
            f"neither NVML nor {DRIVER_FILE} gives the NVIDIA driver's version; in a container, "
            "set NVIDIA_DRIVER_CAPABILITIES=compute,utility"
        )
    return version


def server_library(backend: Path = BACKEND) -> Path:
    """The libnvinfer that the server's TensorRT backend loads, according to the dynamic loader.

    From ldd and not from pip: Python's TensorRT may bring another one along.
    """
    if not backend.is_file():
        raise EngineError(
            f"the server's TensorRT backend {backend} is missing; run this in the serving image, "
            "or pass --backend PATH"
        )
    try:
        done = subprocess.run(["ldd", backend], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise EngineError(f"ldd could not read {backend}: {error}") from error
    match = re.search(r"libnvinfer\.so\.\d+ => (\S+) \(0x", done.stdout)
    if not match:
        raise EngineError(
            f"the server's TensorRT backend {backend} needs libnvinfer, which the dynamic loader "
            "does not find; use NVIDIA's image as it is, or correct LD_LIBRARY_PATH"
        )
    return Path(match[1])


def loaded_library(maps: Path = Path("/proc/self/maps")) -> Path:
    """The libnvinfer that this process has loaded, after TensorRT was imported."""
    match = re.search(r"/\S*/libnvinfer\.so\.\S+", maps.read_text(errors="replace"))
    if not match:
        raise EngineError("TensorRT was imported, but this process has no libnvinfer loaded")
    return Path(match[0])


def library_version(library: Path) -> str:
    """All four numbers of a libnvinfer: an engine runs on exactly these. EngineError."""
    try:
        loaded = ctypes.CDLL(str(library))
        parts = [
            getattr(loaded, f"getInferLib{part}Version")()
            for part in ("Major", "Minor", "Patch", "Build")
        ]
    except (OSError, AttributeError) as error:
        raise EngineError(
            f"{library} must be TensorRT 10 or later, but its version could not be read: {error}; "
            "use the image that the Dockerfile names"
        ) from error
    return ".".join(map(str, parts))


def load_tensorrt() -> ModuleType:
    """The module `tensorrt`; EngineError with the remedy when it is not installed.

    NVIDIA's package of the bindings alone is called tensorrt_bindings.
    """
    reasons = []
    for name in ("tensorrt", "tensorrt_bindings"):
        try:
            module = importlib.import_module(name)
        except ImportError as error:
            reasons.append(str(error))
        else:
            sys.modules["tensorrt"] = module
            return module
    raise EngineError(
        "building an engine needs TensorRT's Python bindings, which could not be imported "
        f"({'; '.join(reasons)}); {INSTALL_TENSORRT}"
    )


def _gpu(cuda: ctypes.CDLL, ordinal: int) -> Gpu:
    device = ctypes.c_int()
    name = ctypes.create_string_buffer(NAME_LENGTH)
    major, minor = ctypes.c_int(), ctypes.c_int()
    code = (
        cuda.cuDeviceGet(ctypes.byref(device), ordinal)
        or cuda.cuDeviceGetName(name, NAME_LENGTH, device)
        or cuda.cuDeviceGetAttribute(ctypes.byref(major), COMPUTE_CAPABILITY_MAJOR, device)
        or cuda.cuDeviceGetAttribute(ctypes.byref(minor), COMPUTE_CAPABILITY_MINOR, device)
    )
    if code:
        raise EngineError(
            f"could not read name and compute capability of GPU {ordinal}: the driver returned "
            f"CUDA error {code}; check it with nvidia-smi"
        )
    return Gpu(name.value.decode(errors="replace"), f"{major.value}.{minor.value}")


def _driver_from_nvml() -> str | None:
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return None
    version = ctypes.create_string_buffer(NAME_LENGTH)
    if nvml.nvmlInit_v2():
        return None
    try:
        failed = nvml.nvmlSystemGetDriverVersion(version, NAME_LENGTH)
    finally:
        nvml.nvmlShutdown()
    return None if failed else version.value.decode()


def _driver_from_file() -> str | None:
    if not DRIVER_FILE.is_file():
        return None
    # "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.95.05  Tue Sep 23 ..."
    match = re.search(r"\b\d{3,}\.\d+(?:\.\d+)?\b", DRIVER_FILE.read_text())
    return match[0] if match else None


def main(argv: Sequence[str] | None = None) -> int:
    """Print the facts of this machine; 1 with an error message when something is missing."""
    parser = argparse.ArgumentParser(
        prog="python -m pemtrt.gpu_info", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--tensorrt", action="store_true", help="print the server's version alone")
    parser.add_argument("--backend", type=Path, default=BACKEND, metavar="PATH")
    options = parser.parse_args(argv)
    try:
        version = library_version(server_library(options.backend))
        if options.tensorrt:
            print(version)
            return 0
        print(f"TensorRT of the server: {version}\nDriver: {driver_version()}")
        for ordinal, gpu in enumerate(visible_gpus()):
            print(f"GPU {ordinal}: {gpu.name}, compute capability {gpu.capability}")
    except EngineError as error:
        log(f"gpu_info: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
