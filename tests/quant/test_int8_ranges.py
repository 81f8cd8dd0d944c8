"""The ranges beside the exported graph, evaluated as they are served."""

import json
from collections.abc import Callable
from pathlib import Path

import export_onnx
import numpy as np
import onnx
import pytest

from pemexport import contract
from pemexport.accuracy import Example
from pemexport.repository_steps import has_int8, open_network
from pemquant import int8_ranges
from pemquant.accuracy_gate import Limits
from pemquant.fp16 import PrecisionError
from pemquant.int8 import candidates
from pemquant.int8_ranges import ranges_of, write_ranges
from pemseg.pem import Pem

needs_int8 = pytest.mark.skipif(not has_int8(), reason="needs a CPU with INT8 dot products")
ANYTHING = Limits(loss=100, agreement=0)


def ranges_with(plain: onnx.ModelProto, layers: list[str]) -> dict[str, tuple[float, float]]:
    return ranges_of(plain.graph, {n.input[0]: 2.0 for n in plain.graph.node}, layers)


def test_what_a_relu_gives_starts_at_zero_and_the_rest_at_minus_the_most(
    plain: onnx.ModelProto,
) -> None:
    ranges = ranges_with(plain, candidates(plain))
    makers = {name: node.op_type for node in plain.graph.node for name in node.output}
    assert {makers[name] for name, (low, _) in ranges.items() if low == 0} >= {"Relu", "Concat"}
    signed = {name: ends for name, ends in ranges.items() if ends[0] != 0}
    assert "Relu" not in {makers[name] for name in signed}
    assert "Div" in {makers[name] for name in signed}  # the image
    for low, high in signed.values():
        assert low == pytest.approx(-128 / 127 * high)


def test_what_a_layer_that_is_left_out_reads_has_no_range(plain: onnx.ModelProto) -> None:
    layers = candidates(plain)
    for left_out in (layers[0], layers[len(layers) // 2], layers[-1]):
        source = next(n.input[0] for n in plain.graph.node if n.name == left_out)
        assert source in ranges_with(plain, layers)
        assert source not in ranges_with(plain, [layer for layer in layers if layer != left_out])


@needs_int8
def test_an_export_with_calibration_is_served_in_int8(
    tiny_network: Callable[..., Pem],
    image_files: list[Path],
    square_images: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    network = tiny_network(seed=4)
    monkeypatch.setattr(export_onnx, "load_network", lambda path: network)
    target = tmp_path / "out" / "model.onnx"
    options = ["--output", str(target), "--size", "64", "--picture", str(image_files[0])]
    options += ["--calibration", str(image_files[0].parent), "--min-agreement", "0"]
    assert export_onnx.main(options) == 0
    ranges = contract.ranges_path(target)
    output = capsys.readouterr()
    assert output.out.split() == [str(target), str(ranges)]
    assert "--picture is now --image" in output.err
    assert sorted(target.parent.iterdir()) == [target, ranges]
    stored = json.loads(ranges.read_text())
    assert stored["calibration"]["images"] == 8
    served = open_network(target, "auto")
    assert served.precision.int8
    plain = open_network(target, "f32")
    scores, expected = served(square_images)[1], plain(square_images)[1]
    assert 0 < np.abs(scores - expected).max() < 0.2


@needs_int8
def test_ranges_that_lose_too_much_are_not_written(
    plain: onnx.ModelProto, image_files: list[Path], square_images: np.ndarray, tmp_path: Path
) -> None:
    with pytest.raises(PrecisionError, match=r"101\.0%"):
        write_ranges(
            tmp_path / "plain.onnx",
            calibration=list(square_images),
            examples=[Example(path) for path in image_files],
            limits=Limits(loss=0, agreement=1.01),
        )
    assert not contract.ranges_path(tmp_path / "plain.onnx").exists()


def test_without_int8_nothing_can_be_evaluated(
    plain: onnx.ModelProto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(int8_ranges, "has_int8", lambda: False)
    with pytest.raises(PrecisionError, match="--calibration"):
        write_ranges(tmp_path / "plain.onnx", calibration=[], examples=[], limits=ANYTHING)


def test_the_served_ranges_are_of_the_served_graph() -> None:
    stored = json.loads(contract.ranges_path(contract.ONNX_PATH).read_text())
    graph = onnx.load(contract.ONNX_PATH)
    facts = {entry.key: entry.value for entry in graph.metadata_props}
    assert stored["weights_sha256"] == facts["weights_sha256"]
    assert stored["accuracy"]["loss"] <= 0.5
    names = {name for node in graph.graph.node for name in node.output}
    assert stored["ranges"].keys() <= names
    assert len(stored["ranges"]) > 70
