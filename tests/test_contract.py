"""Facts that several packages state must be the same in all of them."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tritonclient.grpc import model_config_pb2

from pem_client import _protocol as client_protocol
from pem_client import class_colour
from pem_server.checkout import MODEL_REPOSITORY
from pem_server.model_config import read_model_config
from pemexport import contract
from pemseg.pem import PIXEL_MEAN


@pytest.mark.parametrize("config_name", [None, "t4"])
def test_the_networks_configurations_match_the_tensors_of_the_graph(
    config_name: str | None,
) -> None:
    config = read_model_config(MODEL_REPOSITORY / "pem_network", config_name)
    kind = model_config_pb2.DataType
    size = contract.IMAGE_SIZE
    assert [(t.name, t.data_type, list(t.dims)) for t in config.input] == [
        (contract.IMAGE, kind.TYPE_UINT8, [size, size, 3])
    ]
    assert [(t.name, t.data_type, list(t.dims)) for t in config.output] == [
        (contract.CLASS_IDS, kind.TYPE_INT32, [100]),
        (contract.SCORES, kind.TYPE_FP32, [100]),
        (contract.MASKS, kind.TYPE_UINT8, [size, size]),
    ]
    assert config.max_batch_size == contract.MAX_BATCH


def test_the_client_and_the_ensemble_name_the_same_model_and_tensors() -> None:
    config = read_model_config(MODEL_REPOSITORY / client_protocol.DEFAULT_MODEL)
    assert config.name == client_protocol.DEFAULT_MODEL
    inputs = {tensor.name for tensor in config.input}
    outputs = {tensor.name for tensor in config.output}
    assert inputs == {client_protocol.IMAGE, client_protocol.THRESHOLD}
    assert outputs == {client_protocol.DETECTIONS, client_protocol.SEGMENTATION}


def test_client_and_server_draw_a_class_in_the_same_color(load_source) -> None:  # type: ignore[no-untyped-def]
    rendering = load_source(MODEL_REPOSITORY / "pem_render" / "1" / "rendering.py")
    expected = [(0, 0, 0), *(class_colour(class_id) for class_id in range(255))]
    np.testing.assert_array_equal(rendering.palette(), expected)


def test_padding_is_the_networks_pixel_mean(load_source, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    # The step sets Pillow's own limit for its process, which here is everyone's.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
    source = MODEL_REPOSITORY / "pem_preprocess" / "1" / "preprocessing.py"
    assert tuple(round(channel) for channel in PIXEL_MEAN) == load_source(source).PIXEL_MEAN


def test_git_ignores_no_source(root: Path) -> None:
    """Many ignore lists contain `build/`, which is source here."""
    sources = ["build/export_onnx.py", "build/pemseg/pem.py", "run", "docs/street.jpg"]
    sources += [str(path.relative_to(root)) for path in (contract.ONNX_PATH, contract.WEIGHTS_PATH)]
    found = subprocess.run(
        ["git", "check-ignore", *sources], cwd=root, capture_output=True, text=True, check=False
    )
    assert found.stdout == ""
    assert found.returncode == 1, "1 means that Git ignores none of them"
