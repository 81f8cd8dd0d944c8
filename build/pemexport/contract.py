"""The tensor contract of the network step: names, types and shapes, written once.

`model_repository/pem_network/config.pbtxt` states the same; a test compares the two.
"""

from pathlib import Path

from pem_server.checkout import MODEL_REPOSITORY, ROOT

IMAGE = "image"  # UINT8 (B, 640, 640, 3), RGB
CLASS_IDS = "class_ids"  # INT32 (B, 100), 0-based
SCORES = "scores"  # FP32 (B, 100)
MASKS = "masks"  # UINT8 (B, 640, 640), index of the winning query
OUTPUTS = (CLASS_IDS, SCORES, MASKS)

IMAGE_SIZE = 640  # both sides; the card's benchmark size
MAX_BATCH = 8

LABELS_PATH = MODEL_REPOSITORY / "pem_postprocess" / "labels.txt"
ONNX_PATH = MODEL_REPOSITORY / "pem_network" / "1" / "model.onnx"
WEIGHTS_PATH = ROOT / "build" / "weights" / "street-scenes.safetensors"


def ranges_path(graph: Path) -> Path:
    """Where the network step looks for the activation ranges of a graph."""
    return graph.with_suffix(".ranges.json")


def class_names() -> list[str]:
    """The server's 150 class names; the line number is the class id."""
    return LABELS_PATH.read_text(encoding="utf-8").splitlines()
