"""Which instructions the CPU has, and the precision that follows from them."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import openvino

PRECISIONS = ("auto", "int8", "bf16", "f32")
# Instructions that multiply bytes and add up the products in one step. OpenVINO runs INT8 graphs
# without them too, but hardly faster than f32, and the 16-bit sums can overflow there.
DOT_PRODUCTS = {"avx512_vnni", "avx_vnni", "amx_int8"}


@dataclass(frozen=True)
class CpuFeatures:
    """Whether the CPU has INT8 dot products, and bfloat16."""

    int8: bool
    bf16: bool


@dataclass(frozen=True)
class Precision:
    """Whether convolutions compute in INT8; `floats` is "bf16" or "f32", for everything else.

    `remark` is why a faster one was not chosen.
    """

    int8: bool
    floats: str
    remark: str = ""

    def __str__(self) -> str:
        name = f"int8, and {self.floats} outside convolutions" if self.int8 else self.floats
        return f"{name} ({self.remark})" if self.remark else name


@cache
def openvino_core() -> openvino.Core:
    """OpenVINO, once for the whole life of the process.

    Its CPU plugin replaces the signal stack of the thread that loads it, and restores it wrongly
    when several plugins existed at once: signals are then handled in freed memory, and Ctrl-C or
    the end of a child process kills this one or overwrites its data.
    """
    return openvino.Core()


def detect_cpu(core: openvino.Core, cpuinfo: Path = Path("/proc/cpuinfo")) -> CpuFeatures:
    """The features of this CPU, from OpenVINO and from Linux."""
    capabilities = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    flags = set(cpuinfo.read_text(encoding="utf-8").split()) if cpuinfo.is_file() else set()
    return CpuFeatures(int8=not DOT_PRODUCTS.isdisjoint(flags), bf16="BF16" in capabilities)


def choose_precision(requested: str, cpu: CpuFeatures, no_ranges: str = "") -> Precision:
    """The precision to compute in; "auto" is the fastest that is possible.

    `no_ranges` says why the graph's activation ranges are unknown, where they are. ValueError for
    an unknown precision, or one that this CPU or graph lacks something for.
    """
    if requested not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {requested!r}")
    if requested == "bf16" and not cpu.bf16:
        raise ValueError("precision bf16 needs bfloat16, which this CPU lacks; use auto")
    if requested == "int8" and not cpu.int8:
        raise ValueError(
            "precision int8 needs INT8 dot products (VNNI or AMX), which this CPU lacks; use auto"
        )
    if requested == "int8" and no_ranges:
        raise ValueError(
            f"precision int8 needs the graph's activation ranges, but {no_ranges}; make them with "
            "./run export --calibration FOLDER, or use auto"
        )
    floats = "bf16" if cpu.bf16 and requested != "f32" else "f32"
    if requested in ("bf16", "f32") or not cpu.int8:
        return Precision(False, floats)
    return Precision(not no_ranges, floats, f"no int8: {no_ranges}" if no_ranges else "")
