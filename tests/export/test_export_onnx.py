"""The exported file: its contract, its size, its metadata, and that it computes the same."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import export_onnx
import numpy as np
import onnx
import pytest
from PIL import Image

from pemexport import contract, onnx_export
from pemexport.index_map import IndexMap
from pemexport.onnx_export import ExportError, check_images, compare, write_served_graph
from pemseg.checkpoint import load_network, weights_checksum
from pemseg.pem import Pem

Capture = pytest.CaptureFixture[str]
Build = Callable[..., Pem]


@pytest.fixture
def images() -> np.ndarray:
    """Eight soft images (8, 64, 96, 3), with other colors in each corner."""
    corners = np.random.default_rng(3).integers(0, 256, (8, 3, 3, 3), np.uint8)
    soft = [Image.fromarray(c).resize((96, 64), Image.Resampling.BICUBIC) for c in corners]
    return np.stack([np.asarray(image) for image in soft])


@pytest.mark.parametrize(
    "changes", [{}, {"deformable": True, "layers": 6}], ids=["card", "original"]
)
def test_a_small_network_of_either_variant_exports_and_agrees(
    tiny_network: Build,
    tmp_path: Path,
    images: np.ndarray,
    changes: dict[str, object],
    capsys: Capture,
) -> None:
    network = tiny_network(seed=1, **changes)
    path = write_served_graph(network, tmp_path / "model.onnx", images)
    assert capsys.readouterr().err.count("class ids equal") == 3
    assert list(tmp_path.iterdir()) == [path]
    assert compare(network, path, images[:5]).good


def test_an_inexact_index_map_is_replaced_by_the_exact_one(
    tiny_network: Build,
    tmp_path: Path,
    images: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    fast = IndexMap.upsampled
    monkeypatch.setattr(IndexMap, "upsampled", lambda *given: fast(*given) + 1)
    network = tiny_network(seed=1)
    path = write_served_graph(network, tmp_path / "model.onnx", images)
    assert "upsampling every mask" in capsys.readouterr().err
    assert compare(network, path, images[:5]).map_agreement == 1
    assert list(tmp_path.iterdir()) == [path]


def test_another_networks_file_is_refused_and_the_old_one_stays(
    tiny_network: Build, tmp_path: Path, images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "model.onnx"
    target.write_bytes(b"the old one")
    other = tiny_network(seed=2)
    serving_network = onnx_export.ServingPem
    monkeypatch.setattr(onnx_export, "ServingPem", lambda _, *size: serving_network(other, *size))
    with pytest.raises(ExportError, match="index maps equal"):
        write_served_graph(tiny_network(seed=1), target, images)
    assert target.read_bytes() == b"the old one"
    assert list(tmp_path.iterdir()) == [target]


def test_a_missing_file_is_one_line(tmp_path: Path, capsys: Capture) -> None:
    absent = str(tmp_path / "absent.safetensors")
    assert export_onnx.main(["--weights", absent, "--output", str(tmp_path / "m.onnx")]) == 1
    output = capsys.readouterr()
    assert (output.out, output.err[:8], output.err.count("\n")) == ("", "export: ", 1)


# What follows looks at the file that the first command serves.


@pytest.fixture(scope="module")
def served() -> onnx.ModelProto:
    return onnx.load(contract.ONNX_PATH)


def facts_of(tensors: Iterable[onnx.ValueInfoProto]) -> dict[str, tuple[int, list[object]]]:
    kinds = {tensor.name: tensor.type.tensor_type for tensor in tensors}
    return {
        name: (kind.elem_type, [d.dim_param or d.dim_value for d in kind.shape.dim])
        for name, kind in kinds.items()
    }


def test_the_served_file_has_the_tensors_of_the_contract(served: onnx.ModelProto) -> None:
    kind = onnx.TensorProto
    assert facts_of(served.graph.input) == {"image": (kind.UINT8, ["batch", 640, 640, 3])}
    assert facts_of(served.graph.output) == {
        "class_ids": (kind.INT32, ["batch", 100]),
        "scores": (kind.FLOAT, ["batch", 100]),
        "masks": (kind.UINT8, ["batch", 640, 640]),
    }


def test_the_served_file_is_made_from_the_weights_beside_it(served: onnx.ModelProto) -> None:
    facts = {entry.key: entry.value for entry in served.metadata_props}
    network = load_network(contract.WEIGHTS_PATH)
    assert facts["weights_sha256"] == weights_checksum(network)
    assert json.loads(facts["class_names"]) == contract.class_names()
    assert json.loads(facts["network"])["layers"] == network.config.layers == 3


def test_the_two_weight_files_stay_below_35_megabytes() -> None:
    for path in (contract.ONNX_PATH, contract.WEIGHTS_PATH):
        assert path.stat().st_size <= 35_000_000, path


def test_the_served_file_computes_what_the_network_computes(root: Path) -> None:
    images = check_images(root / "docs" / "street.jpg", 640)
    agreement = compare(load_network(contract.WEIGHTS_PATH), contract.ONNX_PATH, images[2:5])
    assert agreement.good, agreement
