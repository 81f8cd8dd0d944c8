"""Running and rewriting ONNX graphs, and replacing their files."""

import contextlib
import math
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, numpy_helper, shape_inference
from onnx.reference import ReferenceEvaluator

SMALL = 64  # elements: shapes, scales and axes have fewer, every weight has more


def open_session(graph: Path | onnx.ModelProto) -> onnxruntime.InferenceSession:
    """A session on the CPU that computes the graph as written, quantization included.

    On OMP_NUM_THREADS threads, if that is set; else on every core.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", "0").split(",")[0])
    options.log_severity_level = 4  # exceptions have the same text
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    source = graph if isinstance(graph, Path) else graph.SerializeToString()
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def float_tensors(model: onnx.ModelProto) -> set[str]:
    """The names of all FP32 tensors of a graph: weights, inputs, outputs and intermediate ones."""
    graph = shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    values = (*graph.input, *graph.value_info, *graph.output)
    named = {v.name for v in values if v.type.tensor_type.elem_type == TensorProto.FLOAT}
    return named | {t.name for t in graph.initializer if t.data_type == TensorProto.FLOAT}


def replace_nodes(graph: onnx.GraphProto, nodes: Sequence[onnx.NodeProto]) -> None:
    """Replace the graph's nodes; remove inferred types and unused constants."""
    nodes = list(nodes)  # they may lie in the graph
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.value_info[:]
    used = {name for node in nodes for name in node.input}
    used.update(value.name for value in graph.output)
    for tensor in [t for t in graph.initializer if t.name not in used]:
        graph.initializer.remove(tensor)


def fold_constants(graph: onnx.GraphProto, *, largest: float = math.inf) -> None:
    """Evaluate every node whose inputs are constants of at most `largest` elements.

    A result that is larger than its inputs is not stored: it is cheaper to compute.
    """
    known = {t.name: t for t in graph.initializer if math.prod(t.dims) <= largest}
    original = {t.name for t in graph.initializer}
    kept = []
    for node in graph.node:
        values = _outcome(node, known)
        if values is None:
            kept.append(node)
            continue
        for name, value in zip(node.output, values, strict=True):
            known[name] = numpy_helper.from_array(value, name)
    used = {name for node in kept for name in node.input}
    graph.initializer.extend(t for n, t in known.items() if n in used and n not in original)
    replace_nodes(graph, kept)


def _outcome(
    node: onnx.NodeProto, known: dict[str, TensorProto]
) -> list[np.ndarray[tuple[int, ...], np.dtype[np.generic]]] | None:
    """The values of a node's outputs, or None if they are not to be stored."""
    names = [name for name in node.input if name]
    if not all(name in known for name in names):
        return None
    feeds = {name: numpy_helper.to_array(known[name]) for name in names}
    values = [np.asarray(value) for value in ReferenceEvaluator(node).run(None, feeds)]
    largest = max([SMALL, *(value.size for value in feeds.values())])
    grows = names and any(value.size > largest for value in values)
    return None if grows else values


@contextlib.contextmanager
def replace_when_done(target: Path) -> Iterator[Path]:
    """A draft of `target` to write; files beside the draft are installed with it, graphs last.

    An exception leaves everything as it was.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".draft-") as folder:
        yield Path(folder) / target.name
        for path in sorted(Path(folder).iterdir(), key=lambda path: path.suffix == ".onnx"):
            os.replace(path, target.parent / path.name)
