"""The network as an ONNX graph with the serving contract, checked against PyTorch.

The graph takes uint8 images and returns class ids, scores and an index map, see contract.py; the
batch is dynamic, the size fixed.

B batch, H and W the size of the images.
"""

import json
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from pem_server.console import log
from pemseg.checkpoint import weights_checksum
from pemseg.inference import card_outputs
from pemseg.pem import Pem

from . import contract
from .onnx_rewrite import SMALL, fold_constants, open_session, replace_when_done
from .serving import ServingPem

OPSET = 17  # LayerNormalization is one node; TensorRT 10 and ONNX Runtime both support it
TYPED_OPSET = 19  # the first whose QuantizeLinear supports FP16
SCORE_TOLERANCE = 1e-4
MAP_AGREEMENT = 0.999  # share of pixels whose query must be the same
CHECKED_BATCHES = (1, 2, 8)

Images = NDArray[np.uint8]  # (B, H, W, 3) RGB


class ExportError(RuntimeError):
    """The exported graph does not compute what the network computes."""


class IndexMapError(ExportError):
    """Only the index map differs: this network's masks are too noisy for the fast method."""


@dataclass(frozen=True)
class Agreement:
    """The difference between the graph and the network on one batch."""

    class_ids_equal: bool
    score_difference: float
    map_agreement: float

    @property
    def good(self) -> bool:
        return self.classes_good and self.map_agreement >= MAP_AGREEMENT

    @property
    def classes_good(self) -> bool:
        return self.class_ids_equal and self.score_difference <= SCORE_TOLERANCE

    def __str__(self) -> str:
        ids = "equal" if self.class_ids_equal else "DIFFERENT"
        return (
            f"class ids {ids}, scores within {self.score_difference:.1e}, "
            f"index maps equal on {self.map_agreement:.4%} of pixels"
        )


def write_served_graph(
    network: Pem, target: Path, images: Images, *, mask_stride: int = 1, opset: int = OPSET
) -> Path:
    """Write `network` for the size of `images` to `target`, checked; returns `target`.

    `images` (8 or more, H, W, 3) uint8 are what ONNX Runtime and PyTorch are compared on, in
    batches of 1, 2 and 8. Raises ExportError, and leaves `target` as it was, if they disagree.
    """
    with replace_when_done(target) as draft:
        try:
            _write_checked(network, draft, images, mask_stride, opset, upsample_all=False)
        except IndexMapError as error:
            log(f"{error}; upsampling every mask instead, which is slower")
            _write_checked(network, draft, images, mask_stride, opset, upsample_all=True)
    return target


def _write_checked(
    network: Pem, path: Path, images: Images, mask_stride: int, opset: int, *, upsample_all: bool
) -> None:
    """Write the graph and compare it; IndexMapError if the slow index map may help."""
    height, width = images.shape[1:3]
    module = ServingPem(network, height, width, mask_stride, upsample_all).eval()
    _trace(module, path, images[:2], opset)
    queries = (network.config.queries,)
    map_size = (height // mask_stride, width // mask_stride)
    sizes = {contract.CLASS_IDS: queries, contract.SCORES: queries, contract.MASKS: map_size}
    _describe(path, network, sizes)
    for size in CHECKED_BATCHES:
        agreement = compare(network, path, images[:size])
        log(f"batch {size}: {agreement}")
        if not agreement.good:
            kind = IndexMapError if agreement.classes_good and not upsample_all else ExportError
            raise kind(f"the exported graph differs from the network: {agreement}")


def compare(network: Pem, path: Path, batch: Images) -> Agreement:
    """Run `batch` (B, H, W, 3) through the network in PyTorch and through the file."""
    session = open_session(path)
    class_ids, scores, masks = session.run(list(contract.OUTPUTS), {contract.IMAGE: batch})
    with torch.inference_mode():
        prediction = network(torch.from_numpy(batch).permute(0, 3, 1, 2))
        expected = card_outputs(prediction, masks.shape[1:])
    return agreement_of((class_ids, scores, masks), [value.numpy() for value in expected])


def agreement_of(found: Sequence[NDArray[Any]], expected: Sequence[NDArray[Any]]) -> Agreement:
    """Both are class ids (B, Q), scores (B, Q) and masks (B, H, W)."""
    (class_ids, scores, masks), (true_ids, true_scores, true_masks) = found, expected
    return Agreement(
        class_ids_equal=bool(np.array_equal(class_ids, true_ids)),
        score_difference=float(np.abs(scores - true_scores).max()),
        map_agreement=float((masks == true_masks).mean()),
    )


def check_images(path: Path, size: int) -> Images:
    """Eight images (8, size, size, 3) from one: rotated, mirrored, and the same darkened."""
    with Image.open(path) as image:
        square = ImageOps.fit(image.convert("RGB"), (size, size))
    plain = np.asarray(square)
    views = [view for rotated in (plain, np.rot90(plain)) for view in (rotated, rotated[:, ::-1])]
    dark = [(view * 0.6).astype(np.uint8) for view in views]
    return np.ascontiguousarray(np.stack(views + dark))


def _trace(module: ServingPem, path: Path, example: Images, opset: int) -> None:
    names = (contract.IMAGE, *contract.OUTPUTS)
    with warnings.catch_warnings():
        # The tracing exporter keeps the modules' names; it warns of its successor at every call.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (torch.from_numpy(example),),
            path,
            input_names=[contract.IMAGE],
            output_names=list(contract.OUTPUTS),
            dynamic_axes={name: {0: "batch"} for name in names},
            opset_version=opset,
            do_constant_folding=False,  # folding would store every weight in float32
            dynamo=False,
        )


def _describe(path: Path, network: Pem, sizes: dict[str, tuple[int, ...]]) -> None:
    """Add metadata and the sizes of the outputs to the file; check it."""
    model = onnx.load(path)
    fold_constants(model.graph, largest=SMALL)  # so that every shape can be inferred
    for output in model.graph.output:
        dims = output.type.tensor_type.shape.dim[1:]
        for dim, size in zip(dims, sizes[output.name], strict=True):
            dim.dim_value = size
    metadata = {
        "class_names": json.dumps(contract.class_names()),
        "network": json.dumps(asdict(network.config)),
        "weights_sha256": weights_checksum(network),
    }
    for key, value in metadata.items():
        model.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
