"""A model in any of its forms, as something that turns an image file into label maps.

A segmenter answers one map (H, W) uint8 for each reading it can give, class id + 1 for each pixel
of the upright image: `served` from all forms, `semantic` from checkpoints only.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from pem_client import Client
from pem_training.dataset import read_image
from pem_training.geometry import fit, scale_back
from pem_training.readings import Labels, semantic_labels, served_labels
from pemexport import contract
from pemseg import load_network

Segmenter = Callable[[Path], Mapping[str, Labels]]


class ModelError(ValueError):
    """A model that cannot be evaluated; the message says why."""


def open_segmenter(model: str) -> Segmenter:
    """The segmenter of a checkpoint (.pth, .safetensors), an ONNX file, or a server's URL.

    Raises ModelError, or CheckpointError for a checkpoint, if it cannot be used.
    """
    if model.startswith(("grpc://", "http://")):
        return server_segmenter(Client(model))
    path = Path(model)
    if not path.is_file():
        raise ModelError(
            f"the model must be a checkpoint, an ONNX file, or the URL of a server (grpc://... or "
            f"http://...), but {model} does not exist"
        )
    return onnx_segmenter(path) if path.suffix == ".onnx" else checkpoint_segmenter(path)


def checkpoint_segmenter(path: Path, side: int = contract.IMAGE_SIZE) -> Segmenter:
    """Both readings of a network, the served one at `side`; on a GPU if there is one."""
    network = load_network(path).to("cuda" if torch.cuda.is_available() else "cpu")

    def segment(file: Path) -> dict[str, Labels]:
        image = read_image(file)
        return {
            "served": served_labels(network, image, side),
            "semantic": semantic_labels(network, image),
        }

    return segment


def onnx_segmenter(path: Path) -> Segmenter:
    """The served reading of an exported graph, on the CPU, at the size it was exported for."""
    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime has a class of its own for every reason
        raise ModelError(f"{path} must be an ONNX graph, but cannot be loaded: {error}") from None
    _check_graph(path, session)
    side = session.get_inputs()[0].shape[1]

    def segment(file: Path) -> dict[str, Labels]:
        image = read_image(file)
        square, fitted = fit(image, side)
        class_ids, masks = session.run(
            [contract.CLASS_IDS, contract.MASKS], {contract.IMAGE: square[None]}
        )
        answer = (class_ids[0] + 1).astype(np.uint8)[masks[0]]  # (S, S) / stride
        size = (image.height, image.width)
        return {"served": scale_back(answer, side, fitted, size)}

    return segment


def server_segmenter(client: Client) -> Segmenter:
    """The served reading of a running server. Threshold 0 hides nothing: every score is greater.

    The file's own bytes are sent, so decoding is measured as well.
    """

    def segment(file: Path) -> dict[str, Labels]:
        return {"served": client.segment(file, threshold=0.0)}

    return segment


def _check_graph(path: Path, session: onnxruntime.InferenceSession) -> None:
    inputs = {one.name: one.shape for one in session.get_inputs()}
    outputs = {one.name for one in session.get_outputs()}
    shape = inputs.get(contract.IMAGE, [])
    is_square = len(shape) == 4 and isinstance(shape[1], int) and shape[1] == shape[2]
    if not is_square or not outputs.issuperset(contract.OUTPUTS):
        raise ModelError(
            f"{path} must be a graph of `./run export` for squares, with the input "
            f"{contract.IMAGE} and the outputs {', '.join(contract.OUTPUTS)}, got {inputs} and "
            f"{sorted(outputs)}"
        )
