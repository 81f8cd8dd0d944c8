"""NVIDIA's own parser and compiler, of TensorRT-RTX, on every graph that `./run export` makes."""

import sys
from collections.abc import Callable
from pathlib import Path

import build_engine
import numpy as np
import onnx
import pytest
from onnx import TensorProto

from pemexport import contract
from pemexport.onnx_export import OPSET, TYPED_OPSET, write_served_graph
from pemexport.onnx_rewrite import fold_constants
from pemquant.fp16 import to_half
from pemquant.int8 import candidates, quantize
from pemseg.config import VARIANTS
from pemseg.pem import Pem
from pemtrt import graph_types
from pemtrt.manifest import EngineError
from pemtrt.rtx_parser import parse_graph


def parse(model: onnx.ModelProto, folder: Path, compile_for_t4: bool = False) -> int:
    onnx.save(model, folder / "graph.onnx")
    return parse_graph(folder / "graph.onnx", print, compile_for_t4)


def typed_variants(model: onnx.ModelProto) -> dict[str, onnx.ModelProto]:
    """As ./run export --precision makes them, with every layer in INT8 that can be."""
    fold_constants(model.graph)
    layers = candidates(model)
    clips = {node.input[0]: 1.0 for node in model.graph.node if node.name in layers}
    return {"fp16": to_half(model), "int8": to_half(quantize(model, clips, layers))}


@pytest.mark.parametrize(
    "changes", [{}, {"deformable": True, "layers": 6}], ids=["card", "original"]
)
def test_every_precision_of_a_small_network_parses(
    tiny_network: Callable[..., Pem], tmp_path: Path, changes: dict[str, object]
) -> None:
    images = np.random.default_rng(3).integers(0, 256, (8, 64, 96, 3), np.uint8)
    network = tiny_network(seed=1, **changes)
    for opset in (OPSET, TYPED_OPSET):
        model = onnx.load(write_served_graph(network, tmp_path / "m.onnx", images, opset=opset))
        assert parse(model, tmp_path) == 0

    for precision, typed in typed_variants(model).items():
        assert parse(typed, tmp_path) == 0
        assert graph_types.precision_of(typed, graph_types.element_types(typed)) == precision


def test_the_served_graph_parses_and_compiles_for_a_t4_in_fp16(tmp_path: Path) -> None:
    model = onnx.load(contract.ONNX_PATH)
    assert parse(model, tmp_path) == 0
    fold_constants(model.graph)
    assert parse(to_half(model), tmp_path, compile_for_t4=True) > 30_000_000


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_both_networks_compile_for_a_t4_in_fp16_and_int8(name: str, tmp_path: Path) -> None:
    network = Pem(VARIANTS[name]()).eval()
    images = np.random.default_rng(3).integers(0, 256, (8, 64, 96, 3), np.uint8)
    path = write_served_graph(network, tmp_path / "m.onnx", images, opset=TYPED_OPSET)
    for typed in typed_variants(onnx.load(path)).values():
        assert parse(typed, tmp_path, compile_for_t4=True) > 10_000_000


def test_an_operator_that_is_not_supported_is_refused_with_the_parsers_reason(
    tmp_path: Path,
) -> None:
    model = onnx.load(contract.ONNX_PATH)
    node = next(node for node in model.graph.node if node.name == "/ArgMax")
    node.op_type = "Det"
    del node.attribute[:]
    with pytest.raises(EngineError, match=r"node /ArgMax \(Det\): .*\(in checkDet\)"):
        parse(model, tmp_path)


def test_fp32_products_are_refused_with_the_compilers_reason(
    small_graph: Callable[..., onnx.ModelProto], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "fp32.onnx"
    onnx.save(small_graph(), path)
    assert build_engine.main(["--compile", str(path)]) == 1
    assert "FP32 GEMM" in capsys.readouterr().err
    assert build_engine.main(["--check", str(path)]) == 0
    assert "4 nodes" in capsys.readouterr().out
    onnx.save(small_graph(TensorProto.FLOAT16), path)
    assert build_engine.main(["--compile", str(path)]) == 0
    assert "sm_75" in capsys.readouterr().out


def test_without_the_packages_the_remedy_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt_rtx_bindings", None)
    with pytest.raises(EngineError, match="pip install --no-deps tensorrt-rtx"):
        parse_graph(tmp_path / "graph.onnx", print)
