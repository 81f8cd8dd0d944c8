"""What the processor multiplies fast, and the precision that follows from it."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import openvino

PRECISIONS = ("auto", "int8", "bf16", "f32")
# Of processors that multiply bytes and add the products up in one instruction. OpenVINO takes INT8
# graphs on others too, but there it is hardly faster than f32, and its 16-bit sums can overflow.
DOT_PRODUCTS = {"avx512_vnni", "avx_vnni", "amx_int8"}


@dataclass(frozen=True)
class Processor:
    """Whether it has INT8 dot products, and bfloat16."""

    int8: bool
    bf16: bool


@dataclass(frozen=True)
class Precision:
    """Whether convolutions compute in INT8; `floats` is "bf16" or "f32", for everything else.

    `remark` tells why a faster one was not taken.
    """

    int8: bool
    floats: str
    remark: str = ""

    def __str__(self) -> str:
        taken = f"int8, and {self.floats} outside convolutions" if self.int8 else self.floats
        return f"{taken} ({self.remark})" if self.remark else taken


@cache
def openvino_core() -> openvino.Core:
    """OpenVINO, once for the process and to its end.

    Its CPU plugin gives the thread that loads it another stack for signals, and takes it back
    wrongly when several plugins lived at once: signals are then handled in freed memory, and Ctrl-C
    or the end of a child kills the process or writes over its data.
    """
    return openvino.Core()


def this_processor(core: openvino.Core, cpuinfo: Path = Path("/proc/cpuinfo")) -> Processor:
    """What OpenVINO and the system tell of the processor."""
    capabilities = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    flags = set(cpuinfo.read_text(encoding="utf-8").split()) if cpuinfo.is_file() else set()
    return Processor(int8=not DOT_PRODUCTS.isdisjoint(flags), bf16="BF16" in capabilities)


def choose(wanted: str, has: Processor, no_ranges: str = "") -> Precision:
    """The precision to compute in; "auto" is the fastest one that can be.

    `no_ranges` says why the graph's activation ranges are not known, where that is so. ValueError
    for a precision that there is not, or not here.
    """
    if wanted not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, got {wanted!r}")
    if wanted == "bf16" and not has.bf16:
        raise ValueError(
            "precision bf16 needs a processor with bfloat16, which this one is not; say auto"
        )
    if wanted == "int8" and not has.int8:
        raise ValueError(
            "precision int8 needs a processor with INT8 dot products (VNNI or AMX), which this one "
            "is not; say auto"
        )
    if wanted == "int8" and no_ranges:
        raise ValueError(
            f"precision int8 needs the graph's activation ranges, but {no_ranges}; make them with "
            "./run export --calibration IMAGES, or say auto"
        )
    floats = "bf16" if has.bf16 and wanted != "f32" else "f32"
    if wanted in ("bf16", "f32") or not has.int8:
        return Precision(False, floats)
    return Precision(not no_ranges, floats, f"no int8: {no_ranges}" if no_ranges else "")
