"""The static check: which graphs pass, and which are refused with which problem."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pemtrt import graph_types
from pemtrt.manifest import EngineError
from pemtrt.parser_check import check_graph, operator_list
from pemtrt.parser_rules import RESTRICTIONS

if TYPE_CHECKING:
    from pemseg import Pem

KIND = TensorProto
MIB = 2**20


def made(
    *nodes: onnx.NodeProto,
    kind: int = KIND.FLOAT,
    dims: tuple[int, ...] = (4, 8, 8),
    opset: int = 17,
    outputs: tuple[str, ...] = (),
    **constants: Any,
) -> onnx.ModelProto:
    """A graph from x, (batch, *dims) of `kind`, to y and `outputs`, with named constants."""
    x = helper.make_tensor_value_info("x", kind, ["batch", *dims])
    tensors = [numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()]
    model = helper.make_model(
        helper.make_graph(list(nodes), "graph", [x], [onnx.ValueInfoProto(name="y")], tensors),
        opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid("com.mine", 1)],
    )
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph.output
    for output, found in zip(model.graph.output, inferred, strict=True):
        output.CopyFrom(found)
        output.type.tensor_type.elem_type = found.type.tensor_type.elem_type or kind
        if not found.type.tensor_type.shape.dim:
            output.type.tensor_type.shape.dim.add().dim_param = "batch"
    return model


def node(kind: str, *inputs: str, to: str = "y", domain: str = "", **attributes: Any):
    """`to` names the outputs."""
    name = f"{kind.lower()} of {inputs[0]}"
    return helper.make_node(kind, inputs, to.split(), name, domain=domain, **attributes)


def cast(source: str, target: str, kind: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [source], [target], f"cast of {source}", to=kind)


GOOD = {
    "a product": made(node("Mul", "x", "two"), two=np.float32(2)),
    "half precision": made(node("Relu", "x"), kind=KIND.FLOAT16),
    "bytes at both ends": made(
        cast("x", "f", KIND.FLOAT),
        node("Relu", "f", to="r"),
        cast("r", "y", KIND.UINT8),
        kind=KIND.UINT8,
    ),
    "constant scales": made(
        node("Resize", "x", "", "scales", mode="linear"), scales=np.float32([1, 1, 2, 2])
    ),
    "a shape from the batch": made(
        node("Shape", "x", to="s"),
        node("Gather", "s", "first", to="b"),
        node("Concat", "b", "rest", to="wanted", axis=0),
        node("Reshape", "x", "wanted"),
        first=np.int64([0]),
        rest=np.int64([256]),
    ),
    "the best of all": made(node("TopK", "x", "k", to="y i"), k=np.int64([3])),
    "int8 between a pair": made(
        node("QuantizeLinear", "x", "scale", "zero", to="q"),
        node("DequantizeLinear", "q", "scale", "zero"),
        scale=np.float32(0.1),
        zero=np.int8(0),
    ),
    "sampling": made(
        node("Shape", "x", to="s"),
        node("Gather", "s", "first", to="b"),
        node("Concat", "b", "rest", to="size", axis=0),
        node("Expand", "grid", "size", to="grids"),
        node("GridSample", "x", "grids"),
        first=np.int64([0]),
        rest=np.int64([2, 2, 2]),
        grid=np.zeros((1, 2, 2, 2), np.float32),
    ),
}


@pytest.mark.parametrize("model", GOOD.values(), ids=GOOD)
def test_a_supported_graph_passes(model: onnx.ModelProto) -> None:
    assert check_graph(model).problems == []


BAD = {
    "an unknown operator": (
        made(node("Hardmax", "x", to="h"), node("Det", "h")),
        "Det det of h",
    ),
    "another's operator": (
        made(node("Relu", "x", to="y", domain="com.mine")),
        "Relu relu of x",
    ),
    "double precision": (
        made(node("Relu", "x"), kind=KIND.DOUBLE),
        "type DOUBLE, but onnx-tensorrt 10.1 accepts FP32, FP16, INT32, INT64",
    ),
    "bf16": (made(node("Relu", "x"), kind=KIND.BFLOAT16), "type BF16"),
    "integers where floats belong": (
        made(node("Softmax", "x"), kind=KIND.INT64),
        "Softmax softmax of x has x of type INT64",
    ),
    "bytes turned before they are floats": (
        made(
            node("Transpose", "x", to="t", perm=[0, 2, 3, 1]),
            cast("t", "y", KIND.FLOAT),
            kind=KIND.UINT8,
        ),
        "Transpose transpose of x has the uint8 tensor x",
    ),
    "bytes from integers": (
        made(
            node("ArgMax", "x", to="a", axis=1),
            cast("a", "y", KIND.UINT8),
        ),
        "Cast cast of a has the uint8 tensor y",
    ),
    "bytes in the middle": (
        made(
            cast("x", "b", KIND.UINT8),
            cast("b", "y", KIND.FLOAT),
        ),
        "Cast cast of x has the uint8 tensor b",
    ),
    "an output that is used again": (
        made(
            cast("x", "b", KIND.UINT8),
            cast("b", "y", KIND.FLOAT),
            outputs=("b",),
        ),
        "Cast cast of b has the uint8 tensor b",
    ),
    "places of non-zeros": (made(node("NonZero", "x")), "size depends on the image"),
    "a dynamic k": (
        made(
            node("ReduceMax", "x", to="m", keepdims=0),
            cast("m", "i", KIND.INT64),
            node("Reshape", "i", "one", to="k"),
            node("TopK", "x", "k", to="y at"),
            one=np.int64([1]),
        ),
        "TopK topk of x takes a shape from k, which depends on the image",
    ),
    "too many": (
        made(
            node("TopK", "x", "k", to="y i"),
            dims=(5000,),
            k=np.int64([4000]),
        ),
        "must take a constant number of elements, 3839 at most",
    ),
    "unsorted": (
        made(node("TopK", "x", "k", to="y i", sorted=0), k=np.int64([3])),
        "topk of x must be sorted",
    ),
    "cubic": (
        made(node("Resize", "x", "", "scales", mode="cubic"), scales=np.float32([1, 1, 2, 2])),
        "nearest or linear, got cubic",
    ),
    "antialiased": (
        made(
            node("Resize", "x", "", "scales", mode="linear", antialias=1),
            opset=18,
            scales=np.float32([1, 1, 2, 2]),
        ),
        "antialias 0, got 1",
    ),
    "computed scales": (
        made(
            node("Mul", "scales", "one", to="s"),
            node("Resize", "x", "", "s", mode="linear"),
            scales=np.float32([1, 1, 2, 2]),
            one=np.float32(1),
        ),
        "must have constant scales",
    ),
    "indices of a maximum": (
        made(node("MaxPool", "x", to="y i", kernel_shape=[2, 2])),
        "MaxPool maxpool of x must not give indices",
    ),
    "dilated pooling": (
        made(node("MaxPool", "x", kernel_shape=[2, 2], dilations=[2, 2])),
        "must not be dilated",
    ),
    "a statistic too many": (
        made(
            node("LayerNormalization", "x", "w", to="y mean"),
            w=np.ones(8, np.float32),
        ),
        "must have one output, got mean too",
    ),
    "computed axes": (
        made(
            node("Add", "axes", "axes", to="a"),
            node("ReduceSum", "x", "a", keepdims=0),
            axes=np.int64([1]),
        ),
        "must have constant axes",
    ),
    "a shifted zero": (
        made(
            node("QuantizeLinear", "x", "scale", "zero", to="q"),
            node("DequantizeLinear", "q", "scale", "zero"),
            scale=np.float32(0.1),
            zero=np.int8(3),
        ),
        "must have the zero point 0",
    ),
    "no zero": (
        made(
            node("QuantizeLinear", "x", "scale", to="q"),
            node("DequantizeLinear", "q", "scale"),
            scale=np.float32(0.1),
        ),
        "must name its zero point",
    ),
    "sampling in three dimensions": (
        made(
            node("Shape", "x", to="s"),
            node("Gather", "s", "first", to="b"),
            node("Concat", "b", "rest", to="size", axis=0),
            node("Expand", "grid", "size", to="grids"),
            node("GridSample", "x", "grids"),
            opset=20,
            dims=(1, 2, 2, 2),
            first=np.int64([0]),
            rest=np.int64([2, 2, 2, 3]),
            grid=np.zeros((1, 2, 2, 2, 3), np.float32),
        ),
        "must sample tensors of four dimensions",
    ),
    "adding while scattering": (
        made(
            node("ScatterND", "x", "at", "with", reduction="add"),
            at=np.int64([[0]]),
            **{"with": np.zeros((1, 4, 8, 8), np.float32)},
        ),
        "must not reduce",
    ),
    "a rule that nobody checks": (
        made(node("CumSum", "x", "axis", to="c"), node("Hardmax", "c"), axis=np.int64(1)),
        "Hardmax hardmax of c has a rule in that parser that is not checked here",
    ),
    "a new opset": (made(node("Relu", "x"), opset=21), "opset must be 9 to 20, got 21"),
}


@pytest.mark.parametrize(("model", "expected"), BAD.values(), ids=BAD)
def test_an_unsupported_graph_is_refused(model: onnx.ModelProto, expected: str) -> None:
    found = check_graph(model).problems

    assert any(expected in problem for problem in found), found


def test_a_shape_that_does_not_follow_from_the_batch_is_refused() -> None:
    model = made(
        node("ReduceMax", "x", to="m", keepdims=0),
        cast("m", "i", KIND.INT64),
        node("Reshape", "i", "one", to="n"),
        node("Expand", "two", "n"),
        one=np.int64([1]),
        two=np.float32([[2]]),
    )

    found = check_graph(model).problems
    assert any("Expand expand of two takes a shape from n" in problem for problem in found)
    assert any("must follow from a batch of 3" in problem for problem in found)


def test_an_output_must_have_the_batch_in_front() -> None:
    model = made(node("ReduceSum", "x", "first", keepdims=0), first=np.int64([0]))

    assert any("output y" in problem for problem in check_graph(model).problems)


def test_a_graph_that_contradicts_itself_is_refused() -> None:
    model = made(node("MatMul", "x", "w"), w=np.zeros((8, 3), np.float32))
    model.graph.initializer[0].dims[0] = 7

    [problem] = check_graph(model).problems
    assert "MatMul" in problem


def test_a_file_that_is_no_graph_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("no graph")

    with pytest.raises(EngineError, match=r"text\.onnx"):
        graph_types.load(tmp_path / "text.onnx")


def test_memory_counts_what_is_alive_at_once() -> None:
    model = made(
        node("Relu", "x", to="a"), node("Relu", "a", to="b"), node("Add", "b", "x"), dims=(MIB,)
    )
    memory = graph_types.memory(model, graph_types.infer(model, 2), count=1)

    [(_, value, size)] = memory.largest
    assert (value.shape, size) == ((2, MIB), 8 * MIB)
    assert memory.peak_bytes == 3 * 8 * MIB  # x, and two of a, b and y


@pytest.mark.parametrize(
    ("model", "precision"),
    [(GOOD["int8 between a pair"], "int8"), (made(node("Relu", "x")), "unknown")]
    + [
        (made(node("MatMul", "x", "w"), kind=kind, w=np.zeros((8, 8), type_)), name)
        for kind, type_, name in (
            (KIND.FLOAT, np.float32, "fp32"),
            (KIND.FLOAT16, np.float16, "fp16"),
        )
    ],
)
def test_the_precision_is_that_of_the_products(model: onnx.ModelProto, precision: str) -> None:
    assert graph_types.precision_of(model, graph_types.infer(model, 1)) == precision


def test_the_list_is_that_of_the_parser_without_what_a_t4_lacks(root: Path) -> None:
    path = root.parent / "shared" / "tensorrt-api" / "onnx-operators-10.1.json"
    if not path.is_file():
        pytest.skip("needs the parser's operator list in ../shared/tensorrt-api")
    given = json.loads(path.read_text())
    supported = {name: op for name, op in given["operators"].items() if op["supported"]}
    lacking = {"BF16", "FP8", "FP4", "INT4", ""}

    listed = operator_list()
    assert (listed.parser, list(listed.opset)) == (given["parser"], given["opset"])
    assert {name: set(types) for name, types in listed.types.items()} == {
        name: set(op["types"]) - lacking for name, op in supported.items()
    }
    assert listed.restricted == {name for name, op in supported.items() if op["restrictions"]}
    assert set(RESTRICTIONS) <= listed.restricted


def test_the_graph_of_the_repository_passes(root: Path) -> None:
    model = graph_types.load(root / "model_repository" / "pem_network" / "1" / "model.onnx")
    checked = check_graph(model)

    assert checked.problems == []
    assert checked.nodes > 300
    assert {"FP32", "UINT8"} <= set(graph_types.types_of(checked.values.values()))
    assert graph_types.precision_of(model, checked.values) == "fp32"
    assert graph_types.memory(model, checked.values).peak_bytes < 4 * 2**30  # of a T4's 16 GiB


@pytest.mark.parametrize(
    "changes", [{}, {"deformable": True, "layers": 6}], ids=["card", "original"]
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
def test_every_precision_of_either_variant_passes(
    tiny_network: Callable[..., "Pem"], tmp_path: Path, changes: dict[str, object]
) -> None:
    # With torch, which the tests above do without.
    from pemexport.onnx_export import OPSET, TYPED_OPSET, write_served_graph

    images = np.random.default_rng(3).integers(0, 256, (8, 64, 96, 3), np.uint8)
    network = tiny_network(seed=1, **changes)
    for opset in (OPSET, TYPED_OPSET):
        path = write_served_graph(network, tmp_path / "fp32.onnx", images, opset=opset)
        model = graph_types.load(path)
        assert check_graph(model).problems == []

    for precision, typed in typed_variants(model).items():
        checked = check_graph(typed)
        assert checked.problems == []
        assert graph_types.precision_of(typed, checked.values) == precision


def typed_variants(model: onnx.ModelProto) -> dict[str, onnx.ModelProto]:
    """As ./run export --precision makes them, with every layer in INT8 that can be."""
    from pemexport.onnx_rewrite import fold_constants
    from pemquant.fp16 import to_half
    from pemquant.int8 import candidates, quantize

    fold_constants(model.graph)
    layers = candidates(model)
    assert layers
    clips = {node.input[0]: 1.0 for node in model.graph.node if node.name in layers}
    return {"fp16": to_half(model), "int8": to_half(quantize(model, clips, layers))}
