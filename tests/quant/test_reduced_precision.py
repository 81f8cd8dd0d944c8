"""A variant is written with its report, or not at all."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import export_onnx
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from pemexport.accuracy import AccuracyReport, Example
from pemquant import layer_search
from pemquant.accuracy_gate import AccuracyGate, Limits
from pemquant.fp16 import PrecisionError
from pemquant.reduced_precision import write_variant
from pemseg.checkpoint import save_state
from pemseg.pem import Pem

Export = Callable[..., onnx.ModelProto]
Capture = pytest.CaptureFixture[str]

ANYTHING = Limits(loss=100, agreement=0)


@pytest.fixture
def write(
    exported: Export, square_images: np.ndarray, image_files: Sequence[Path], tmp_path: Path
) -> Callable[..., Path]:
    """Write a variant of the tiny network, evaluated by agreement on three images."""

    def write(
        precision: str, limits: Limits = ANYTHING, model: onnx.ModelProto | None = None
    ) -> Path:
        return write_variant(
            model or exported(),
            precision,
            tmp_path / "out" / "variant.onnx",
            calibration=square_images[:2],
            examples=[Example(path) for path in image_files[:3]],
            limits=limits,
        )

    return write


def test_a_variant_that_loses_too_much_leaves_the_old_one(
    write: Callable[..., Path], tmp_path: Path
) -> None:
    target = tmp_path / "out" / "variant.onnx"
    target.parent.mkdir()
    target.write_bytes(b"the old one")
    with pytest.raises(PrecisionError, match=r"110\.0%"):
        write("fp16", Limits(loss=-1, agreement=1.1))
    assert list(target.parent.iterdir()) == [target]
    assert target.read_bytes() == b"the old one"


def test_values_near_the_end_of_fp16_are_refused(
    exported: Export, write: Callable[..., Path], tmp_path: Path
) -> None:
    model = exported()
    first = next(n for n in model.graph.node if n.op_type == "Conv")
    bias = next(t for t in model.graph.initializer if t.name == first.input[2])
    value = np.full_like(numpy_helper.to_array(bias), 9000)
    bias.CopyFrom(numpy_helper.from_array(value, bias.name))
    with pytest.raises(PrecisionError, match="8188"):
        write("fp16", model=model)
    assert not (tmp_path / "out").exists()


def test_int8_that_loses_too_much_excludes_its_most_sensitive_layers(
    write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    reports: list[AccuracyReport] = []

    def passes(self: AccuracyGate, report: AccuracyReport) -> bool:
        reports.append(report)
        return len(reports) > 2  # fails with none and with one excluded layer

    def sensitivity(quantize: object, layers: Sequence[str], images: object) -> dict[str, float]:
        return dict.fromkeys(layers[:4], 0.1)

    monkeypatch.setattr(AccuracyGate, "passes", passes)
    monkeypatch.setattr(layer_search, "layer_sensitivity", sensitivity)
    path = write("int8")
    report = json.loads(path.with_suffix(".json").read_text())
    worst = list(report["sensitivity"])
    assert report["fp16_layers"] == worst[:2]
    assert report["trials"].keys() == {"0", "1", "2"}
    weights = {node.name: node.input[1] for node in onnx.load(path).graph.node if node.input[1:]}
    quantized = [weights[layer].endswith("dequantized") for layer in worst]
    assert quantized == [False, False, True, True]


def test_the_command_writes_a_variant_and_warns_without_labels(
    tiny_network: Callable[..., Pem], image_files: Sequence[Path], tmp_path: Path, capsys: Capture
) -> None:
    weights, target = tmp_path / "w.safetensors", tmp_path / "new" / "fp16.onnx"
    save_state(tiny_network(seed=1), weights)
    words = ["--weights", weights, "--size", "64", "--output", target, "--precision", "fp16"]
    words += ["--image", image_files[0], "--min-agreement", "50"]
    assert export_onnx.main([str(word) for word in words]) == 0
    output = capsys.readouterr()
    assert output.out == f"{target}\n"
    assert "--data" in output.err
    assert {path.name for path in target.parent.iterdir()} == {"fp16.json", "fp16.onnx"}
    report = json.loads(target.with_suffix(".json").read_text())
    assert (report["precision"], report["images"]) == ("fp16", 1)
    assert report["pixel_agreement"] > 90
    assert "miou" not in report
    largest = list(report["largest_values"].values())
    assert largest == sorted(largest, reverse=True)
    metadata = {entry.key: entry.value for entry in onnx.load(target).metadata_props}
    assert metadata["precision"] == "fp16"


def test_the_clipping_can_be_chosen_and_is_reported(
    tiny_network: Callable[..., Pem], image_files: Sequence[Path], tmp_path: Path
) -> None:
    weights, target = tmp_path / "w.safetensors", tmp_path / "int8.onnx"
    save_state(tiny_network(seed=1), weights)
    words = ["--weights", weights, "--size", "64", "--output", target, "--precision", "int8"]
    words += ["--calibration", image_files[0].parent, "--calibration-images", "1"]
    words += ["--image", image_files[0], "--min-agreement", "0", "--clipping", "entropy"]
    assert export_onnx.main([str(word) for word in words]) == 0
    report = json.loads(target.with_suffix(".json").read_text())
    assert report["calibration"] == {"images": 1, "clipping": "entropy"}


def test_int8_without_calibration_images_is_refused(tmp_path: Path, capsys: Capture) -> None:
    target = tmp_path / "int8.onnx"
    assert export_onnx.main(["--precision", "int8", "--output", str(target)]) == 1
    output = capsys.readouterr()
    assert "--calibration FOLDER" in output.err
    assert output.err.count("\n") == 1
    assert not target.exists()
