"""Write the network as an ONNX file with the serving contract, and check that it computes the same.

    ./run export
    ./run export --calibration IMAGES --data FOLDER
    ./run export --precision fp16 --data FOLDER
    ./run export --precision int8 --calibration IMAGES --data FOLDER

The graph takes uint8 images and returns class ids, scores and an index map
(pemexport/contract.py); the batch is dynamic, the size fixed. Weights that are exact in half
precision are stored in half precision. The file is written only if ONNX Runtime agrees with
PyTorch on every image.

With --calibration, the ranges of its activations are written beside it, and the server computes in
INT8 on CPUs with VNNI or AMX. fp16 and int8 are typed graphs for TensorRT, and go to artifacts/
with a report beside them. All these are compared with the FP32 graph: by the loss of mIoU on
labeled images (FOLDER in the ADE20K layout); without them, only by the share of pixels that keep
their class. A variant that loses too much is not written.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx

from pem_server import checksums
from pem_server.checkout import ROOT
from pem_server.console import accept_old_options, log
from pemexport import contract
from pemexport.accuracy import Example, images_in, labelled_in
from pemexport.onnx_export import TYPED_OPSET, ExportError, Images, check_images, write_served_graph
from pemexport.onnx_rewrite import replace_when_done
from pemexport.repository_steps import fit
from pemquant.accuracy_gate import LIMITS, Limits
from pemquant.calibration import CLIPPING
from pemquant.int8_ranges import write_ranges
from pemquant.reduced_precision import write_variant
from pemseg.checkpoint import load_network
from pemseg.pem import Pem

OLD_OPTIONS = {
    "--picture": "--image",
    "--pictures": "--images",
    "--calibration-pictures": "--calibration-images",
}


def main(argv: Sequence[str] | None = None) -> int:
    options = _parse(accept_old_options(sys.argv[1:] if argv is None else argv, OLD_OPTIONS))
    try:
        network = load_network(options.weights)
        images = check_images(options.image, options.size)
        export = _export_served if options.precision == "fp32" else _export_variant
        for path in export(network, options, images):
            print(path)
    except (ExportError, OSError, ValueError) as error:
        log(f"export: {error}")
        return 1
    return 0


def _export_served(network: Pem, options: argparse.Namespace, images: Images) -> list[Path]:
    """The graph, and its ranges if there are images to measure them on; returns the files."""
    target = options.output or contract.ONNX_PATH
    if options.calibration is None:
        write_served_graph(network, target, images, mask_stride=options.mask_stride)
        checksums.graph_written(target)
        return [target]
    gate = _gate_arguments(options)
    with replace_when_done(target) as draft:
        write_served_graph(network, draft, images, mask_stride=options.mask_stride)
        write_ranges(draft, **gate)
    checksums.graph_written(target)
    return [target, contract.ranges_path(target)]


def _export_variant(network: Pem, options: argparse.Namespace, images: Images) -> list[Path]:
    """The typed graph of `--precision`; returns the file."""
    target = options.output or ROOT / "artifacts" / f"pem-{options.precision}.onnx"
    gate = _gate_arguments(options)
    with tempfile.TemporaryDirectory(prefix="export-") as folder:
        draft = Path(folder) / "fp32.onnx"
        stride = options.mask_stride
        write_served_graph(network, draft, images, mask_stride=stride, opset=TYPED_OPSET)
        model = onnx.load(draft)
    return [write_variant(model, options.precision, target, **gate)]


def _gate_arguments(options: argparse.Namespace) -> dict[str, Any]:
    """The calibration images and the accuracy gate of `write_ranges` and `write_variant`."""
    calibration = [options.image]
    if options.calibration is not None:
        calibration = images_in(options.calibration, options.calibration_images)
    elif options.precision == "int8":
        raise ValueError(
            "int8 needs calibration: pass --calibration FOLDER of representative images"
        )
    if options.data is not None:
        examples = labelled_in(options.data, options.split, options.images)
    else:
        examples = [Example(path) for path in calibration]
        log(f"no --data: comparing pixels of {len(examples)} unlabeled image(s) only, no mIoU")
    default = LIMITS["fp16" if options.precision == "fp16" else "int8"]
    return {
        "calibration": [fit(path, options.size)[0] for path in calibration],
        "examples": examples,
        "clipping": options.clipping,
        "limits": Limits(
            default.loss if options.max_loss is None else options.max_loss,
            default.agreement if options.min_agreement is None else options.min_agreement / 100,
        ),
    }


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="run export", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    default = "; default: %(default)s"
    add("--weights", type=Path, default=contract.WEIGHTS_PATH, help="the network" + default)
    served = contract.ONNX_PATH.relative_to(ROOT)
    text = f"default: {served}; fp16 and int8: artifacts/pem-PRECISION.onnx"
    add("--output", type=Path, help=text)
    text = "height and width, a multiple of 32; the configurations state 640 (default)"
    add("--size", type=int, default=contract.IMAGE_SIZE, help=text)
    text = "stride of the index map; change `masks` in the configurations with it"
    add("--mask-stride", type=int, choices=(1, 2, 4), default=1, help=text)
    text = "to compare the graph with PyTorch on" + default
    add("--image", type=Path, default=ROOT / "docs" / "street.jpg", help=text)
    add("--precision", choices=("fp32", "fp16", "int8"), default="fp32", help=default[2:])
    add = parser.add_argument_group("INT8 ranges, fp16 and int8").add_argument
    add("--data", type=Path, help="labeled images for the accuracy gate")
    add("--split", default="validation", help="of --data" + default)
    add("--images", type=int, default=1_000_000, metavar="N", help="use at most N of --data")
    losses = ", ".join(f"{name} {limits.loss:g}" for name, limits in LIMITS.items())
    add("--max-loss", type=float, metavar="POINTS", help=f"of mIoU; default: {losses}")
    shares = ", ".join(f"{name} {100 * limits.agreement:g}" for name, limits in LIMITS.items())
    text = f"of pixels, without --data; default: {shares}"
    add("--min-agreement", type=float, metavar="PERCENT", help=text)
    add("--calibration", type=Path, metavar="FOLDER", help="representative images")
    text = "use N of them, evenly spaced" + default
    add("--calibration-images", type=int, default=32, metavar="N", help=text)
    text = "how the INT8 range is chosen" + default
    add("--clipping", choices=CLIPPING, default="percentile", help=text)
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
