"""The least time a graph can take on a device, kernel by kernel.

Each kernel takes as long as its arithmetic at the device's peak or its bytes at the device's
bandwidth, whichever is longer; kernels follow one another. No device reaches its peaks, and nothing
is counted for launching: the sum is a bound, not a forecast.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import onnx
from onnx import TensorProto

from .graph_costs import Kernel, Kernels, Tensor, kernels_of

CARD_IMAGES_PER_SECOND = 142  # NVIDIA T4, TensorRT, 640x640: the model card's figure
AIM = 2 * CARD_IMAGES_PER_SECOND  # T4, FP16, batch 8

PRECISIONS = ("fp16", "int8", "fp32", "as-exported")
BYTES = {"fp32": 4, "fp16": 2, "int8": 1}
CONVOLUTIONS = frozenset(["Conv", "ConvTranspose", "AveragePool"])
KINDS: dict[int, str] = {
    TensorProto.FLOAT: "fp32",
    TensorProto.FLOAT16: "fp16",
    TensorProto.INT8: "int8",
    TensorProto.UINT8: "int8",
}
# TensorRT has no 64-bit integers inside and bool is a byte.
WHOLE_BYTES: dict[int, int] = {TensorProto.UINT8: 1, TensorProto.INT8: 1, TensorProto.BOOL: 1}


@dataclass(frozen=True)
class Device:
    """Peaks in operations a second (a multiply-add is two) and bandwidth in bytes a second."""

    name: str
    peaks: dict[str, float]
    bandwidth: float


T4 = Device("T4", {"fp32": 8.1e12, "fp16": 65e12, "int8": 130e12}, 320e9)

# The parts of the network, by the names of the nodes; the first that fits.
SECTIONS = {
    "image: layout, normalisation": r"/(Transpose|Cast|Sub|Div)",
    "stem, to 1/2": r"/backbone/features\.0/",
    "stem, to 1/4": r"/backbone/features\.1/",
    "backbone, from 1/4 to 1/8": r"/backbone/features\.2/(conv_list\.0|avd_layer|skip)",
    "backbone, 1/8": r"/backbone/features\.[2-5]/",
    "backbone, 1/16": r"/backbone/features\.([6-9]|10)/",
    "backbone, 1/32": r"/backbone/features\.1[1-3]/",
    "pixel decoder, 1/4": r"/pixel_decoder/(dcn\.2/up_sample|in_projections\.0|csm\.3|Add_3|out)",
    "pixel decoder, 1/8 to 1/32": r"/pixel_decoder/",
    "masks of the decoder's levels": r"/decoder/(Resize|MatMul(_[12])?$)",
    "decoder, keys": r"/decoder/layers\.\d/keys/",
    "decoder, prototypes": r"/decoder/layers\.\d/cross_attention/",
    "mask product": r"/decoder/MatMul_3",
    "decoder, queries and classes": r"/decoder/|/Softmax|/ReduceMax|/ArgMax$",
    "enlarging the masks": r"/Resize",
    "argmax over the queries": r"/ArgMax_1|/index_map/ArgMax",
    "index map at full size": r"/index_map/",
}
OTHER = "everything else"


@dataclass(frozen=True)
class Cost:
    """What one kernel costs for a whole batch."""

    name: str
    section: str
    operations: tuple[str, ...]
    flop: int
    bytes: int
    arithmetic_seconds: float
    memory_seconds: float

    @property
    def seconds(self) -> float:
        return max(self.arithmetic_seconds, self.memory_seconds)


def roofline(
    model: onnx.ModelProto, batch: int, precision: str = "fp16", device: Device = T4
) -> list[Cost]:
    """The cost of each kernel of `model` at `batch`, in order.

    `precision` fp32 and fp16 count every float tensor so; int8 counts what convolutions read and
    write as one byte, the rest as fp16; as-exported takes the types of the graph itself. ValueError
    for a graph whose shapes cannot be worked out.
    """
    graph = kernels_of(model, batch)
    width_of = _widths(graph, precision)
    return [_cost(kernel, graph, width_of, precision, device) for kernel in graph.kernels]


def _cost(
    kernel: Kernel, graph: Kernels, width_of: Callable[[str], int], precision: str, device: Device
) -> Cost:
    moved = sum(count * width_of(name) for name, count in kernel.reads.items())
    moved += sum(graph.tensors[name].elements * width_of(name) for name in kernel.writes)
    flop = 2 * kernel.multiply_adds
    peak = device.peaks[_arithmetic(kernel, precision)]
    return Cost(
        name=kernel.name,
        section=section_of(kernel.name),
        operations=kernel.operations,
        flop=flop,
        bytes=moved,
        arithmetic_seconds=flop / peak,
        memory_seconds=moved / device.bandwidth,
    )


def section_of(name: str) -> str:
    return next((title for title, rule in SECTIONS.items() if re.match(rule, name)), OTHER)


def _arithmetic(kernel: Kernel, precision: str) -> str:
    if precision == "as-exported":
        return KINDS.get(kernel.matrix_kind or TensorProto.FLOAT, "fp32")
    if precision == "int8" and not CONVOLUTIONS.intersection(kernel.operations):
        return "fp16"
    return precision


def _widths(graph: Kernels, precision: str) -> Callable[[str], int]:
    """Bytes of an element of each tensor in memory."""
    small: set[str] = set()  # in INT8: what convolutions read, but for images, and write
    if precision == "int8":
        for kernel in graph.kernels:
            if CONVOLUTIONS.intersection(kernel.operations):
                small |= kernel.reads.keys() | kernel.writes

    return lambda name: _width(graph.tensors[name], precision, name in small)


def _width(tensor: Tensor, precision: str, small: bool) -> int:
    if not tensor.floating:
        return WHOLE_BYTES.get(tensor.kind, 4)
    if precision == "as-exported":
        return BYTES[KINDS.get(tensor.kind, "fp16")]
    if precision == "int8":
        return BYTES["int8" if small else "fp16"]
    return BYTES[precision]


@dataclass(frozen=True)
class Part:
    """A section of the network for one image of the batch."""

    section: str
    kernels: int
    gflop: float
    megabytes: float
    microseconds: float
    memory_bound: float  # share of that time in kernels that wait for memory


def parts(costs: Iterable[Cost], batch: int) -> list[Part]:
    """The sections that occur, in the order of the network."""
    costs = list(costs)
    found = []
    for section in (*SECTIONS, OTHER):
        mine = [cost for cost in costs if cost.section == section]
        seconds = sum(cost.seconds for cost in mine)
        if mine:
            waiting = sum(c.seconds for c in mine if c.memory_seconds >= c.arithmetic_seconds)
            found.append(
                Part(
                    section=section,
                    kernels=len(mine),
                    gflop=sum(cost.flop for cost in mine) / batch / 1e9,
                    megabytes=sum(cost.bytes for cost in mine) / batch / 1e6,
                    microseconds=seconds / batch * 1e6,
                    memory_bound=waiting / seconds if seconds else 0.0,
                )
            )
    return found


def images_per_second(costs: Iterable[Cost], batch: int) -> float:
    """The bound: no kernel faster than its own, one after the other."""
    return batch / sum(cost.seconds for cost in costs)
