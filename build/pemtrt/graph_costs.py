"""An ONNX graph as a list of kernels: what each computes, what it reads and writes.

A kernel is what a runtime launches once. The rules, roughly those of TensorRT's fusions:

* What depends on no input is worked out when the graph is loaded; it is read like a weight.
* Reshapes are free, and so are Concat, Split and Slice, since their neighbours can write and read
  in place. DequantizeLinear is part of what reads it, and so is a cast between float types: what
  it casts lies in memory in the narrower of the two.
* Pointwise operations join the kernel that made one of their inputs, unless another of their inputs
  waits for that kernel by another way. What only that kernel reads never goes to memory.
* Everything else is a kernel of its own. Each tensor between kernels is written once, and read once
  by each kernel that needs it: resizes and gathers read no more than they use.
"""

import math
from collections import defaultdict
from dataclasses import dataclass, field, replace

import onnx
from onnx import NodeProto, TensorProto

ARITHMETIC = {"Add", "Sub", "Mul", "Div", "Neg", "Abs", "Sqrt", "Pow", "Exp", "Min", "Max"}
LOGIC = {"Less", "Greater", "Equal", "And", "Or", "Not", "Where"}
POINTWISE = ARITHMETIC | LOGIC | {"Relu", "Sigmoid", "Tanh", "Erf", "Clip", "Cast"} | {
    "QuantizeLinear"
}  # fmt: skip
SAME = {"Reshape", "Unsqueeze", "Squeeze", "Flatten", "Identity", "DequantizeLinear"}
PARTS = {"Concat", "Split", "Slice"}
MATRIX = {"Conv", "ConvTranspose", "MatMul", "Gemm"}
FLOATS = (TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.FLOAT)  # narrow to wide
BYTES = (TensorProto.INT8, TensorProto.UINT8)


@dataclass(frozen=True)
class Tensor:
    """What is known of one tensor of the graph."""

    shape: tuple[int, ...]
    kind: int  # onnx.TensorProto.DataType
    constant: bool

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def floating(self) -> bool:
        return self.kind in FLOATS


@dataclass
class Kernel:
    """One launch. `reads` says how many elements of each tensor, `writes` which tensors."""

    nodes: list[NodeProto]
    multiply_adds: int = 0
    matrix_kind: int | None = None  # type of what its convolution or matrix product takes
    reads: dict[str, int] = field(default_factory=dict)
    writes: set[str] = field(default_factory=set)

    @property
    def name(self) -> str:
        """Of the node that does the work, else of the first."""
        heavy = [node for node in self.nodes if node.op_type in MATRIX]
        node = (heavy or self.nodes)[0]
        return node.name or node.output[0]

    @property
    def operations(self) -> tuple[str, ...]:
        return tuple(node.op_type for node in self.nodes)


@dataclass(frozen=True)
class Kernels:
    """A graph at one batch size. `tensors` holds every tensor a kernel reads or writes."""

    kernels: list[Kernel]
    tensors: dict[str, Tensor]


def kernels_of(model: onnx.ModelProto, batch: int) -> Kernels:
    """The kernels of `model` for a batch; ValueError where a shape cannot be worked out."""
    graph = _inferred(model, batch)
    tensors = _tensors(graph)
    views = _Views(graph, tensors)
    kernels = _fused(graph, tensors, views)
    _note_memory(kernels, tensors, views, [value.name for value in graph.output])
    return Kernels(kernels, tensors)


def _inferred(model: onnx.ModelProto, batch: int) -> onnx.GraphProto:
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    del fixed.graph.value_info[:]  # what the exporter noted of a batch of any size
    for value in (*fixed.graph.input, *fixed.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = batch
    return onnx.shape_inference.infer_shapes(fixed, strict_mode=True, data_prop=True).graph


def _tensors(graph: onnx.GraphProto) -> dict[str, Tensor]:
    tensors = {t.name: Tensor(tuple(t.dims), t.data_type, True) for t in graph.initializer}
    for value in graph.input:
        tensors.setdefault(value.name, _tensor(value, constant=False))
    noted = {value.name: value for value in (*graph.value_info, *graph.output)}
    for node in graph.node:
        constant = all(tensors[name].constant for name in node.input if name)
        for name in filter(None, node.output):
            if name not in noted:
                raise ValueError(f"{name} must have a shape, and none can be inferred")
            tensors[name] = _tensor(noted[name], constant=constant)
    return tensors


def _tensor(value: onnx.ValueInfoProto, *, constant: bool) -> Tensor:
    kind = value.type.tensor_type
    if not all(dim.HasField("dim_value") for dim in kind.shape.dim):
        raise ValueError(f"{value.name} must have a fixed shape at a fixed batch, and has not")
    return Tensor(tuple(dim.dim_value for dim in kind.shape.dim), kind.elem_type, constant)


class _Views:
    """Which tensors are others in disguise."""

    def __init__(self, graph: onnx.GraphProto, tensors: dict[str, Tensor]) -> None:
        self._same: dict[str, str] = {}
        self._parts: dict[str, list[str]] = {}
        for node in graph.node:
            if node.op_type in SAME:
                self._same[node.output[0]] = self.itself(node.input[0])
            elif is_float_cast(node, tensors):
                itself = self._same[node.output[0]] = self.itself(node.input[0])
                kinds = tensors[itself].kind, tensors[node.output[0]].kind
                tensors[itself] = replace(tensors[itself], kind=min(kinds, key=FLOATS.index))
            elif node.op_type in PARTS:
                sources = [name for name in node.input if name and not tensors[name].constant]
                roots = [root for source in sources for root in self.roots(source)]
                self._parts.update(dict.fromkeys(node.output, roots))

    def itself(self, name: str) -> str:
        """The tensor of the same content that lies in memory, or a part or union of such."""
        return self._same.get(name, name)

    def roots(self, name: str) -> list[str]:
        """The tensors in memory that hold this one's content."""
        name = self.itself(name)
        return self._parts.get(name, [name])

    def whole(self, name: str) -> bool:
        return self.itself(name) not in self._parts


def is_float_cast(node: NodeProto, tensors: dict[str, Tensor]) -> bool:
    """Of something that is not worked out when the graph is loaded."""
    if node.op_type != "Cast" or tensors[node.input[0]].constant:
        return False
    return tensors[node.input[0]].floating and tensors[node.output[0]].floating


def _fused(graph: onnx.GraphProto, tensors: dict[str, Tensor], views: _Views) -> list[Kernel]:
    kernels: list[Kernel] = []
    made_by: dict[str, Kernel] = {}
    waits_for: dict[int, list[Kernel]] = defaultdict(list)  # by id of the kernel that waits
    for node in graph.node:
        free = node.op_type in SAME | PARTS or is_float_cast(node, tensors)
        if free or tensors[node.output[0]].constant:
            continue
        inputs = [name for name in node.input if name]
        earlier = [
            made_by[root] for name in inputs for root in views.roots(name) if root in made_by
        ]
        kernel = None
        if node.op_type in POINTWISE:
            near = [made_by.get(views.itself(name)) for name in inputs if views.whole(name)]
            kernel = _to_join([k for k in near if k is not None], earlier, waits_for)
        if kernel is None:
            kernel = Kernel([])
            kernels.append(kernel)
        kernel.nodes.append(node)
        kernel.multiply_adds += multiply_adds(node, tensors)
        if node.op_type in MATRIX:
            stored = tensors[views.itself(node.input[0])].kind
            kernel.matrix_kind = stored if stored in BYTES else tensors[node.input[0]].kind
        waits_for[id(kernel)] += [other for other in earlier if other is not kernel]
        made_by.update(dict.fromkeys(node.output, kernel))
    return kernels


def _to_join(
    near: list[Kernel], earlier: list[Kernel], waits_for: dict[int, list[Kernel]]
) -> Kernel | None:
    """The heaviest of `near` that none of the `earlier` others waits for: no circles."""
    fit = [
        kernel
        for kernel in near
        if not any(_reaches(other, kernel, waits_for) for other in earlier if other is not kernel)
    ]
    return max(fit, key=lambda kernel: kernel.multiply_adds, default=None)


def _reaches(start: Kernel, goal: Kernel, waits_for: dict[int, list[Kernel]]) -> bool:
    seen, waiting = set(), [start]
    while waiting:
        kernel = waiting.pop()
        if kernel is goal:
            return True
        if id(kernel) not in seen:
            seen.add(id(kernel))
            waiting += waits_for[id(kernel)]
    return False


def _note_memory(
    kernels: list[Kernel], tensors: dict[str, Tensor], views: _Views, outputs: list[str]
) -> None:
    """What each kernel reads that it did not make, and writes because others need it."""
    needed_by: dict[str, set[int]] = defaultdict(set)
    for name in outputs:
        for root in views.roots(name):
            needed_by[root].add(0)  # no kernel has this id: the reader outside
    for kernel in kernels:
        own = {name for node in kernel.nodes for name in node.output}
        for node in kernel.nodes:
            for name in filter(None, node.input):
                source, roots = views.itself(name), views.roots(name)
                if own.issuperset(roots):
                    continue
                used = _elements_used(node, tensors[source], tensors[node.output[0]])
                kernel.reads[source] = max(used, kernel.reads.get(source, 0))
                for root in roots:
                    needed_by[root].add(id(kernel))
    for kernel in kernels:
        for node in kernel.nodes:
            kernel.writes |= {name for name in node.output if needed_by[name] - {id(kernel)}}


def _elements_used(node: NodeProto, source: Tensor, target: Tensor) -> int:
    """A bilinear resize takes four values for each one out, a gather one."""
    factors = {"Resize": 4, "Gather": 1, "GatherElements": 1, "GatherND": 1}
    if node.op_type not in factors:
        return source.elements
    return min(source.elements, factors[node.op_type] * target.elements)


def multiply_adds(node: NodeProto, tensors: dict[str, Tensor]) -> int:
    """Of convolutions and matrix products; everything else is negligible beside its bytes."""
    if node.op_type not in MATRIX:
        return 0
    first, second = (tensors[name].shape for name in node.input[:2])
    out = tensors[node.output[0]]
    if node.op_type == "Conv":
        return out.elements * math.prod(second[1:])
    if node.op_type == "ConvTranspose":
        return math.prod(first) * math.prod(second[1:])
    transposed = any(a.name == "transA" and a.i for a in node.attribute)
    return out.elements * (first[0] if transposed else first[-1])
