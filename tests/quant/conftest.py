"""An exported graph of a small network, to make typed variants of."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from pemexport.onnx_export import TYPED_OPSET, write_served_graph
from pemexport.onnx_rewrite import fold_constants
from pemseg.pem import Pem


@pytest.fixture
def square_images() -> np.ndarray:
    """Eight soft images (8, 64, 64, 3), with other colors in each corner."""
    corners = np.random.default_rng(5).integers(0, 256, size=(8, 3, 3, 3), dtype=np.uint8)
    soft = [Image.fromarray(c).resize((64, 64), Image.Resampling.BICUBIC) for c in corners]
    return np.stack([np.asarray(image) for image in soft])


@pytest.fixture
def image_files(square_images: np.ndarray, tmp_path: Path) -> list[Path]:
    """The same as files."""
    folder = tmp_path / "images"
    folder.mkdir()
    paths = [folder / f"{number}.png" for number in range(len(square_images))]
    for path, image in zip(paths, square_images, strict=True):
        Image.fromarray(image).save(path)
    return paths


@pytest.fixture
def exported(
    tiny_network: Callable[..., Pem], square_images: np.ndarray, tmp_path: Path
) -> Callable[..., onnx.ModelProto]:
    """Export a tiny network; returns its FP32 graph, constants worked out."""

    def export(**changes: object) -> onnx.ModelProto:
        path = tmp_path / "plain.onnx"
        network = tiny_network(seed=4, **changes)
        write_served_graph(network, path, square_images, opset=TYPED_OPSET)
        model = onnx.load(path)
        fold_constants(model.graph)
        return model

    return export


@pytest.fixture
def plain(exported: Callable[..., onnx.ModelProto]) -> onnx.ModelProto:
    return exported()
