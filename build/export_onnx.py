"""Write the network as an ONNX file with the serving contract, and prove that it computes the same.

    ./run export

The graph takes uint8 pictures and gives class ids, scores and an index map, see pemseg/contract.py;
the batch is dynamic, the size fixed. Weights that are exact in half precision are stored in half
precision. The file is put in place only after ONNX Runtime agreed with PyTorch on every picture.
"""

import argparse
import json
import math
import os
import sys
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator
from PIL import Image, ImageOps

from pemseg import contract
from pemseg.checkpoint import CheckpointError, load_network, weights_checksum
from pemseg.model import Pem
from pemseg.reading import card_outputs
from pemseg.serving import ServingPem

OPSET = 17  # LayerNormalization is one node; TensorRT 10 and ONNX Runtime both take it
SCORE_TOLERANCE = 1e-4
MAP_AGREEMENT = 0.999  # share of pixels whose query must be the same
CHECKED_BATCHES = (1, 2, 8)
SMALL = 64  # elements: shapes, scales and axes have fewer, every weight has more

Pictures = NDArray[np.uint8]  # (B, H, W, 3) RGB


class ExportError(RuntimeError):
    """The exported graph does not compute what the network computes."""


@dataclass(frozen=True)
class Agreement:
    """How far the graph is from the network on one batch."""

    class_ids_equal: bool
    score_difference: float
    map_agreement: float

    @property
    def good(self) -> bool:
        return (
            self.class_ids_equal
            and self.score_difference <= SCORE_TOLERANCE
            and self.map_agreement >= MAP_AGREEMENT
        )

    def __str__(self) -> str:
        ids = "equal" if self.class_ids_equal else "DIFFERENT"
        return (
            f"class ids {ids}, scores within {self.score_difference:.1e}, "
            f"index maps equal on {self.map_agreement:.4%} of pixels"
        )


def export_onnx(
    network: Pem,
    target: Path,
    pictures: Pictures,
    *,
    mask_stride: int = 1,
) -> Path:
    """Write `network` for the size of `pictures` to `target`, checked; returns `target`.

    `pictures` (8 or more, H, W, 3) uint8 are what ONNX Runtime and PyTorch are compared on, in
    batches of 1, 2 and 8. Raises ExportError, and leaves `target` as it was, if they disagree.
    """
    height, width = pictures.shape[1:3]
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".export-") as folder:
        draft = Path(folder) / target.name
        _trace(ServingPem(network, height, width, mask_stride).eval(), draft, pictures[:2])
        queries, map_size = network.config.queries, (height // mask_stride, width // mask_stride)
        sizes = {
            contract.CLASS_IDS: (queries,),
            contract.SCORES: (queries,),
            contract.MASKS: map_size,
        }
        _describe(draft, network, sizes)
        for size in CHECKED_BATCHES:
            agreement = compare(network, draft, pictures[:size])
            print(f"batch {size}: {agreement}", file=sys.stderr)
            if not agreement.good:
                raise ExportError(f"the exported graph differs from the network: {agreement}")
        os.replace(draft, target)
    return target


def compare(network: Pem, path: Path, batch: Pictures) -> Agreement:
    """Run `batch` (B, H, W, 3) through the network in PyTorch and through the file."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    class_ids, scores, masks = session.run(list(contract.OUTPUTS), {contract.IMAGE: batch})
    with torch.inference_mode():
        prediction = network(torch.from_numpy(batch).permute(0, 3, 1, 2))
        expected = card_outputs(prediction, masks.shape[1:])
    true_ids, true_scores, true_masks = (value.numpy() for value in expected)
    return Agreement(
        class_ids_equal=bool(np.array_equal(class_ids, true_ids)),
        score_difference=float(np.abs(scores - true_scores).max()),
        map_agreement=float((masks == true_masks).mean()),
    )


def check_pictures(path: Path, size: int) -> Pictures:
    """Eight pictures (8, size, size, 3) from one: turned, mirrored, brighter and darker."""
    with Image.open(path) as picture:
        square = ImageOps.fit(picture.convert("RGB"), (size, size))
    plain = np.asarray(square)
    views = [view for turned in (plain, np.rot90(plain)) for view in (turned, turned[:, ::-1])]
    dark = [(view * 0.6).astype(np.uint8) for view in views]
    return np.ascontiguousarray(np.stack(views + dark))


def _trace(module: ServingPem, path: Path, example: Pictures) -> None:
    names = (contract.IMAGE, *contract.OUTPUTS)
    with warnings.catch_warnings():
        # The exporter that records the graph as it runs is the one whose nodes keep their names;
        # it announces its successor at every call.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (torch.from_numpy(example),),
            path,
            input_names=[contract.IMAGE],
            output_names=list(contract.OUTPUTS),
            dynamic_axes={name: {0: "batch"} for name in names},
            opset_version=OPSET,
            do_constant_folding=False,  # folding would store every weight in float32
            dynamo=False,
        )


def _describe(path: Path, network: Pem, sizes: dict[str, tuple[int, ...]]) -> None:
    """Write into the file what it was made from and the sizes of its outputs; check it."""
    model = onnx.load(path)
    _fold_small_constants(model.graph)
    for output in model.graph.output:
        dims = output.type.tensor_type.shape.dim[1:]
        for dim, size in zip(dims, sizes[output.name], strict=True):
            dim.dim_value = size
    facts = {
        "class_names": json.dumps(contract.class_names()),
        "network": json.dumps(asdict(network.config)),
        "weights_sha256": weights_checksum(network),
    }
    for key, value in facts.items():
        model.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def _fold_small_constants(graph: onnx.GraphProto) -> None:
    """Work out the constants that say sizes and scales, so that every shape can be inferred.

    Weights, being larger, are left as they are stored.
    """
    known = {t.name: t for t in graph.initializer if math.prod(t.dims) <= SMALL}
    kept = []
    for node in graph.node:
        if not all(name in known or name == "" for name in node.input):
            kept.append(node)
            continue
        feeds = {name: numpy_helper.to_array(known[name]) for name in node.input if name}
        values = ReferenceEvaluator(node).run(None, feeds)
        for name, value in zip(node.output, values, strict=True):
            known[name] = numpy_helper.from_array(np.asarray(value), name)
    used = {name for node in kept for name in node.input}
    original = {t.name for t in graph.initializer}
    graph.initializer.extend(t for n, t in known.items() if n in used and n not in original)
    del graph.node[:]
    graph.node.extend(kept)
    unused = [t for t in graph.initializer if t.name not in used]
    for tensor in unused:
        graph.initializer.remove(tensor)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="run export", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--weights", type=Path, default=contract.WEIGHTS_PATH, help="default: %(default)s"
    )
    parser.add_argument(
        "--output", type=Path, default=contract.ONNX_PATH, help="default: %(default)s"
    )
    parser.add_argument(
        "--size",
        type=int,
        default=contract.IMAGE_SIZE,
        help="height and width, a multiple of 32; the configurations state 640 (default)",
    )
    parser.add_argument(
        "--mask-stride",
        type=int,
        choices=(1, 2, 4),
        default=1,
        help="take the index map at this stride; change `masks` in the configurations with it",
    )
    parser.add_argument(
        "--picture",
        type=Path,
        default=contract.ROOT / "docs" / "street.jpg",
        help="what the graph is compared with PyTorch on (default: %(default)s)",
    )
    options = parser.parse_args(argv)
    try:
        network = load_network(options.weights)
        pictures = check_pictures(options.picture, options.size)
        print(export_onnx(network, options.output, pictures, mask_stride=options.mask_stride))
    except (CheckpointError, ExportError, OSError, ValueError) as error:
        print(f"export: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
