"""The facts read from a machine's libraries, with libraries compiled for the test."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from pemtrt import gpu_info
from pemtrt.manifest import EngineError

Compile = Callable[..., Path]

CUDA = """
#include <string.h>
int cuInit(unsigned flags) { return INIT; }
int cuDeviceGetCount(int *count) { *count = COUNT; return 0; }
int cuDeviceGet(int *device, int ordinal) { *device = 40 + ordinal; return 0; }
int cuDeviceGetName(char *name, int length, int device) {
    strncpy(name, device == 40 ? "Tesla T4" : "NVIDIA L4", length); return 0;
}
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    if (attribute != 75 && attribute != 76) return 1;
    *value = attribute == 75 ? (device == 40 ? 7 : 8) : (device == 40 ? 5 : 9); return ATTRIBUTE;
}
"""
NVML = """
#include <string.h>
int nvmlInit_v2(void) { return 0; }
int nvmlShutdown(void) { return 0; }
int nvmlSystemGetDriverVersion(char *version, unsigned length) {
    strncpy(version, "580.95.05", length); return 0;
}
"""
NVINFER = "".join(
    f"int getInferLib{part}Version(void) {{ return {number}; }}\n"
    for part, number in (("Major", 10), ("Minor", 16), ("Patch", 1), ("Build", 11))
)
BACKEND = "int getInferLibMajorVersion(void); int use(void) { return getInferLibMajorVersion(); }"


@pytest.fixture
def library(tmp_path: Path) -> Compile:
    """Compile a shared library."""
    if not shutil.which("cc"):
        pytest.skip("needs a C compiler, cc, to compile fakes of NVIDIA's libraries")

    def compile_library(name: str, source: str, *options: str) -> Path:
        path = tmp_path / name
        command = ["cc", "-shared", "-fPIC", f"-Wl,-soname,{name}", "-x", "c", "-", "-o", path]
        subprocess.run([*command, *options], input=source, text=True, check=True)
        return path

    return compile_library


def run(tmp_path: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """The module as a program that finds the libraries of the test."""
    return subprocess.run(
        [sys.executable, "-m", "pemtrt.gpu_info", *words],
        env=os.environ | {"LD_LIBRARY_PATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )


@pytest.fixture
def backend(library: Compile, tmp_path: Path) -> Path:
    """A server's backend that needs libnvinfer, which lies on the loader's path."""
    library("libnvinfer.so.10", NVINFER)
    linked = ["-Wl,--no-as-needed", f"-L{tmp_path}", "-l:libnvinfer.so.10"]
    return library("libtriton_tensorrt.so", BACKEND, *linked)


@pytest.fixture
def machine(library: Compile, backend: Path) -> Compile:
    """Compile its other libraries, with what CUDA returns; the backend."""

    def make(init: int, count: int, attribute: int) -> Path:
        results = {"INIT": init, "COUNT": count, "ATTRIBUTE": attribute}
        library("libcuda.so.1", CUDA, *(f"-D{name}={value}" for name, value in results.items()))
        library("libnvidia-ml.so.1", NVML)
        return backend

    return make


def test_gpus_driver_and_the_servers_tensorrt_are_printed(machine: Compile, tmp_path: Path) -> None:
    output = run(tmp_path, "--backend", machine(0, 2, 0))
    assert output.stdout.splitlines() == [
        "TensorRT of the server: 10.16.1.11",
        "Driver: 580.95.05",
        "GPU 0: Tesla T4, compute capability 7.5",
        "GPU 1: NVIDIA L4, compute capability 8.9",
    ]
    assert output.returncode == 0
    (tmp_path / "libcuda.so.1").unlink()  # what follows needs no GPU
    output = run(tmp_path, "--tensorrt", "--backend", tmp_path / "libtriton_tensorrt.so")
    assert (output.stdout, output.stderr) == ("10.16.1.11\n", "")


@pytest.mark.parametrize(
    ("setting", "fact"), [((100, 1, 0), "100"), ((0, 0, 0), "CUDA_VISIBLE"), ((0, 1, 1), "GPU 0")]
)
def test_an_unusable_gpu_is_one_line(
    machine: Compile, tmp_path: Path, setting: tuple[int, ...], fact: str
) -> None:
    output = run(tmp_path, "--backend", machine(*setting))
    assert output.returncode == 1
    assert fact in output.stderr
    assert output.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("missing", "remedy"),
    [("libnvinfer.so.10", "LD_LIBRARY_PATH"), ("libtriton_tensorrt.so", "--backend")],
)
def test_a_backend_without_its_tensorrt_is_refused(
    backend: Path, tmp_path: Path, missing: str, remedy: str
) -> None:
    (tmp_path / missing).unlink()
    output = run(tmp_path, "--backend", backend)
    assert (output.returncode, remedy in output.stderr) == (1, True)


def test_without_nvml_the_driver_is_read_from_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "version"
    monkeypatch.setattr(gpu_info, "DRIVER_FILE", file)
    monkeypatch.setattr(gpu_info, "_driver_from_nvml", lambda: None)
    with pytest.raises(EngineError, match="NVIDIA_DRIVER_CAPABILITIES"):
        gpu_info.driver_version()

    gcc = "GCC version:  gcc version 12.2.0 (Debian 12.2.0-14)"
    for kind, version in (("Kernel Module ", "535.183.01"), ("Open Module for", "580.95.05")):
        file.write_text(f"NVRM version: NVIDIA UNIX {kind} x86_64  {version}  Sun May 12\n{gcc}\n")
        assert gpu_info.driver_version() == version


def test_the_library_that_a_process_has_loaded_is_found(tmp_path: Path) -> None:
    maps = tmp_path / "maps"
    maps.write_text("7f0 11 /usr/libnvinfer_plugin.so.10\n7f1 12 /opt/libnvinfer.so.10.16")
    assert gpu_info.loaded_library(maps) == Path("/opt/libnvinfer.so.10.16")


def test_the_bindings_alone_are_tensorrt_and_without_them_the_remedy_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("tensorrt", "tensorrt_bindings"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(EngineError, match="pip install --no-deps tensorrt-cu13"):
        gpu_info.load_tensorrt()
    bindings = ModuleType("tensorrt_bindings")
    monkeypatch.setitem(sys.modules, "tensorrt_bindings", bindings)
    assert gpu_info.load_tensorrt() is bindings
    assert sys.modules["tensorrt"] is bindings
