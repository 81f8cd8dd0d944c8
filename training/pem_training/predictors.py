"""A model of any kind as a predictor, which turns an image file into label maps.

`served` from every kind of model, `semantic` from checkpoints only; see predict.py.
"""

from pathlib import Path

import onnxruntime
import torch

from pem_client import Client, InvalidRequest
from pem_training.dataset import read_image
from pem_training.predict import semantic_labels, served_labels
from pem_training.score import Predictor
from pemexport import contract
from pemexport.repository_steps import fit, read_back
from pemexport.segmentation_scores import DataError, Labels
from pemseg import load_network


class ModelError(ValueError):
    """A model that cannot be evaluated; the message says why."""


def open_predictor(model: str) -> Predictor:
    """The predictor of a checkpoint (.pth, .safetensors), an ONNX file, or a server's URL.

    Raises ModelError, or CheckpointError for a checkpoint, if it cannot be used.
    """
    if model.startswith(("grpc://", "http://")):
        return server_predictor(Client(model))
    path = Path(model)
    if not path.is_file():
        raise ModelError(
            f"--model takes a checkpoint, an ONNX file, or the URL of a server (grpc://... or "
            f"http://...), but {model} does not exist"
        )
    return onnx_predictor(path) if path.suffix == ".onnx" else checkpoint_predictor(path)


def checkpoint_predictor(path: Path, side: int = contract.IMAGE_SIZE) -> Predictor:
    """Both predictions of a network, the served one at `side`; on a GPU if there is one."""
    network = load_network(path).to("cuda" if torch.cuda.is_available() else "cpu")

    def predict(file: Path) -> dict[str, Labels]:
        return {
            "served": served_labels(network, file, side),
            "semantic": semantic_labels(network, read_image(file)),
        }

    return predict


def onnx_predictor(path: Path) -> Predictor:
    """The prediction of an exported graph, on the CPU, at the size it was exported for."""
    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime has a class of its own for every reason
        raise ModelError(f"{path} must be an ONNX graph, but cannot be loaded: {error}") from None
    _check_graph(path, session)
    side = session.get_inputs()[0].shape[1]

    def predict(file: Path) -> dict[str, Labels]:
        square, geometry = fit(file, side)
        class_ids, masks = session.run(
            [contract.CLASS_IDS, contract.MASKS], {contract.IMAGE: square[None]}
        )
        return {"served": read_back(class_ids[0], masks[0], geometry)}

    return predict


def server_predictor(client: Client) -> Predictor:
    """The prediction of a running server. Threshold 0 hides nothing: every score is greater.

    The file's own bytes are sent, so decoding is measured as well.
    """

    def predict(file: Path) -> dict[str, Labels]:
        try:
            return {"served": client.segment(file, threshold=0.0)}
        except InvalidRequest as error:
            raise DataError(f"{file}: {error}") from error

    return predict


def _check_graph(path: Path, session: onnxruntime.InferenceSession) -> None:
    inputs = {tensor.name: tensor.shape for tensor in session.get_inputs()}
    outputs = {tensor.name for tensor in session.get_outputs()}
    shape = inputs.get(contract.IMAGE, [])
    is_square = len(shape) == 4 and isinstance(shape[1], int) and shape[1] == shape[2]
    if not is_square or not outputs.issuperset(contract.OUTPUTS):
        raise ModelError(
            f"{path} must be a graph of `./run export` for squares, with the input "
            f"{contract.IMAGE} and the outputs {', '.join(contract.OUTPUTS)}, got {inputs} and "
            f"{sorted(outputs)}"
        )
