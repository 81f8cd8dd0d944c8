"""Write the network as an ONNX file with the serving contract, and prove that it computes the same.

    ./run export
    ./run export --calibration IMAGES --data FOLDER
    ./run export --precision fp16 --data FOLDER
    ./run export --precision int8 --calibration IMAGES --data FOLDER

The graph takes uint8 images and returns class ids, scores and an index map
(pemexport/contract.py); the batch is dynamic, the size fixed. Weights that are exact in half
precision are stored in half precision. The file is written only after ONNX Runtime agreed with
PyTorch on every image.

With --calibration, the ranges of its activations are put beside it, and the server computes in INT8
where the processor is for that. fp16 and int8 are typed graphs for TensorRT, and go to artifacts/
with a report beside them. All these are judged against the FP32 graph: by the loss of mIoU on
labelled images (FOLDER in the ADE20K layout); without them, only by how many pixels keep their
class. What loses too much is not written.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx

from pemexport import contract
from pemexport.accuracy import Example, images_in, labelled_in
from pemexport.onnx_export import (
    TYPED_OPSET,
    ExportError,
    Images,
    check_images,
    write_served_graph,
)
from pemexport.repository_steps import ImageError, fit
from pemquant.calibration import CLIPPING
from pemquant.fp16 import PrecisionError
from pemquant.int8_ranges import write_ranges
from pemquant.reduced_precision import LIMITS, FormError, Limits, write_form
from pemseg.checkpoint import CheckpointError, load_network
from pemseg.pem import Pem

CALIBRATION_IMAGES = 32


def export_form(
    network: Pem,
    precision: str,
    target: Path,
    images: Images,
    *,
    calibration: Sequence[Path],
    examples: Sequence[Example],
    limits: Limits,
    clipping: str = "percentile",
    mask_stride: int = 1,
) -> Path:
    """Write the "fp16" or "int8" form of `network` and its report; returns `target`.

    The FP32 graph is made and checked on `images` first; `calibration` and `examples` are what
    the form is made and judged on. Raises ExportError or FormError, and leaves `target` as it was.
    """
    with tempfile.TemporaryDirectory(prefix="export-") as folder:
        draft = Path(folder) / "fp32.onnx"
        write_served_graph(network, draft, images, mask_stride=mask_stride, opset=TYPED_OPSET)
        model = onnx.load(draft)
    return write_form(
        model,
        precision,
        target,
        calibration=[fit(path, images.shape[1])[0] for path in calibration],
        examples=examples,
        limits=limits,
        clipping=clipping,
    )


def main(argv: Sequence[str] | None = None) -> int:
    options = _parse(argv)
    try:
        network = load_network(options.weights)
        images = check_images(options.image, options.size)
        export = _export_served if options.precision == "fp32" else _export_form
        for path in export(network, options, images):
            print(path)
    except (
        CheckpointError,
        ExportError,
        FormError,
        OSError,
        ImageError,
        PrecisionError,
        ValueError,
    ) as error:
        print(f"export: {error}", file=sys.stderr)
        return 1
    return 0


def _export_served(network: Pem, options: argparse.Namespace, images: Images) -> list[Path]:
    """The graph, and its ranges where there are images to measure them on; returns the files."""
    target = options.output or contract.ONNX_PATH
    stride = {"mask_stride": options.mask_stride}
    if options.calibration is None:
        return [write_served_graph(network, target, images, **stride)]
    trial = _trial(options)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".export-") as folder:
        draft = write_served_graph(network, Path(folder) / target.name, images, **stride)
        ranges = write_ranges(
            draft,
            calibration=[fit(path, options.size)[0] for path in trial.calibration],
            examples=trial.examples,
            limits=trial.limits,
            clipping=options.clipping,
        )
        os.replace(ranges, contract.ranges_path(target))
        os.replace(draft, target)
    return [target, contract.ranges_path(target)]


def _export_form(network: Pem, options: argparse.Namespace, images: Images) -> list[Path]:
    """What the options of a typed form say; returns the file."""
    trial = _trial(options)
    target = export_form(
        network,
        options.precision,
        options.output or contract.ROOT / "artifacts" / f"pem-{options.precision}.onnx",
        images,
        calibration=trial.calibration,
        examples=trial.examples,
        limits=trial.limits,
        clipping=options.clipping,
        mask_stride=options.mask_stride,
    )
    return [target]


@dataclass(frozen=True)
class Trial:
    """What a form is made and judged on."""

    calibration: list[Path]
    examples: list[Example]
    limits: Limits


def _trial(options: argparse.Namespace) -> Trial:
    calibration = [options.image]
    if options.calibration is not None:
        calibration = images_in(options.calibration, options.calibration_images)
    elif options.precision == "int8":
        raise ValueError(
            "int8 must know how large values get: give --calibration a folder of images like "
            "those to come"
        )
    if options.data is not None:
        examples = labelled_in(options.data, options.split, options.images)
    else:
        examples = [Example(path) for path in calibration]
        print(
            f"no --data: judged by the agreement on {len(examples)} unlabelled image(s) only",
            file=sys.stderr,
        )
    usual = LIMITS["fp16" if options.precision == "fp16" else "int8"]
    limits = Limits(
        usual.loss if options.max_loss is None else options.max_loss,
        usual.agreement if options.min_agreement is None else options.min_agreement / 100,
    )
    return Trial(calibration, examples, limits)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="run export",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--weights", type=Path, default=contract.WEIGHTS_PATH, help="default: %(default)s"
    )
    parser.add_argument(
        "--output",
        type=Path,
        help=f"default: {contract.ONNX_PATH.relative_to(contract.ROOT)}; fp16 and int8: "
        "artifacts/pem-PRECISION.onnx",
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
        "--image",
        type=Path,
        default=contract.ROOT / "docs" / "street.jpg",
        help="what the graph is compared with PyTorch on (default: %(default)s)",
    )
    _add_precision_options(parser)
    return parser.parse_args(argv)


def _add_precision_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--precision", choices=("fp32", "fp16", "int8"), default="fp32", help="default: %(default)s"
    )
    group = parser.add_argument_group("options of the ranges, of fp16 and int8")
    group.add_argument("--data", type=Path, help="labelled images that judge the form")
    group.add_argument("--split", default="validation", help="of --data; default: %(default)s")
    group.add_argument(
        "--images", type=int, default=1_000_000, metavar="N", help="judge by at most N of them"
    )
    group.add_argument(
        "--max-loss",
        type=float,
        metavar="POINTS",
        help=f"of mIoU; default: fp16 {LIMITS['fp16'].loss}, int8 {LIMITS['int8'].loss}",
    )
    group.add_argument(
        "--min-agreement",
        type=float,
        metavar="PERCENT",
        help="of pixels, where there is no --data; default: "
        f"fp16 {100 * LIMITS['fp16'].agreement:g}, int8 {100 * LIMITS['int8'].agreement:g}",
    )
    group.add_argument(
        "--calibration", type=Path, metavar="FOLDER", help="images that show how large values get"
    )
    group.add_argument(
        "--calibration-images",
        type=int,
        default=CALIBRATION_IMAGES,
        metavar="N",
        help="take N of them, evenly spread; default: %(default)s",
    )
    group.add_argument(
        "--clipping",
        choices=sorted(CLIPPING),
        default="percentile",
        help="how far INT8 reaches; default: %(default)s",
    )


if __name__ == "__main__":
    sys.exit(main())
