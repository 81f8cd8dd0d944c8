"""Import a Focoos `model.onnx`: wrap the SDK's graph in this project's tensor contract.

    ./run wrap-onnx model.onnx

Accepts both layouts of the Focoos SDK, see pemexport/focoos_graph.py, and writes the new graph only
if it agrees with the old one in batches of 1, 2 and 8. The class names of a `focoos_metadata.json`
or `model_info.json` beside the file must be the server's.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from itertools import zip_longest
from pathlib import Path

import numpy as np
import onnx
import torch
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from torch.nn import functional as F

from pem_server import checksums
from pem_server.checkout import ROOT
from pem_server.console import accept_old_options, log
from pemexport import contract
from pemexport.focoos_graph import (
    ForeignGraphError,
    IndexMapLayout,
    Layout,
    Outputs,
    detect_layout,
    image_input,
    wrap,
)
from pemexport.onnx_export import CHECKED_BATCHES, Agreement, Images, agreement_of, check_images
from pemexport.onnx_rewrite import open_session, replace_when_done

METADATA_FILES = ("focoos_metadata.json", "model_info.json")  # of SDK 0.9, of 0.25

ONNX_ERRORS = (onnx.checker.ValidationError, onnx.shape_inference.InferenceError)

Answers = tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.uint8]]


class WrapError(RuntimeError):
    """The wrapped graph differs from the graph inside it."""


def wrap_focoos(source: Path, target: Path, images: Images, *, bgr: bool = False) -> Path:
    """Write the graph of `source` with the contract's tensors to `target`; returns `target`.

    Both graphs are compared on `images` (8 or more, S, S, 3) uint8 RGB. `bgr` feeds the inner graph
    blue first. Raises ForeignGraphError for a graph that is not the SDK's and WrapError if the
    wrapped graph differs; `target` then stays as it was.
    """
    size = images.shape[1]
    check_class_names(source.parent)
    model = load(source)
    answer = open_raw(source, model, size, bgr=bgr)
    layout = detect_layout(answer(images[0]), size)
    expected = [contract_outputs(layout, answer(image), size) for image in images]
    wrapped = wrap(model, layout, size=size, map_size=expected[0][2].shape[1], bgr=bgr)
    _describe(wrapped, source, layout, bgr=bgr)
    with replace_when_done(target) as draft:
        onnx.save(wrapped, draft)
        for count in CHECKED_BATCHES:
            agreement = compare(draft, images[:count], expected[:count])
            log(f"{layout}, batch {count}: {agreement}")
            if not agreement.good:
                raise WrapError(f"the wrapped graph differs from the graph inside it: {agreement}")
    checksums.graph_written(target)
    return target


def load(source: Path) -> onnx.ModelProto:
    """The graph in a file; ForeignGraphError if it has none, OSError if it cannot be read."""
    try:
        return onnx.load(source)
    except DecodeError as error:
        raise ForeignGraphError(f"{source} is not an ONNX file") from error


def open_raw(
    source: Path, model: onnx.ModelProto, size: int, *, bgr: bool
) -> Callable[[NDArray[np.uint8]], Outputs]:
    """The SDK's graph itself: takes one image (S, S, 3) and feeds it as the SDK would."""
    tensor = image_input(model, size)
    kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.type.tensor_type.elem_type)
    try:
        session = open_session(source)
    except Exception as error:  # ONNX Runtime's own classes; any of them means the same here
        reason = str(error).splitlines()[0]
        raise ForeignGraphError(f"ONNX Runtime cannot load the graph: {reason}") from error
    names = [output.name for output in session.get_outputs()]

    def answer(image: NDArray[np.uint8]) -> Outputs:
        planes = np.moveaxis(image[:, :, ::-1] if bgr else image, 2, 0)  # (3, S, S)
        answers = session.run(names, {tensor.name: np.ascontiguousarray(planes[None], kind)})
        return dict(zip(names, answers, strict=True))

    return answer


def contract_outputs(layout: Layout, outputs: Outputs, size: int) -> Answers:
    """class_ids (1, Q), scores (1, Q), masks (1, S, S) from a graph's own outputs, in PyTorch."""
    if isinstance(layout, IndexMapLayout):
        class_ids, scores, masks = (
            outputs[name] for name in (layout.class_ids, layout.scores, layout.masks)
        )
    else:
        probabilities = outputs[layout.probabilities].astype(np.float32)  # (1, Q, K)
        class_ids, scores = probabilities.argmax(axis=2), probabilities.max(axis=2)
        weighted = outputs[layout.masks].astype(np.float32) * scores[:, :, None, None]
        upsampled = F.interpolate(torch.from_numpy(weighted), (size, size), mode="bilinear")
        masks = upsampled.argmax(dim=1).numpy()  # (1, S, S)
    return class_ids.astype(np.int32), scores.astype(np.float32), masks.astype(np.uint8)


def compare(path: Path, batch: Images, expected: Sequence[Answers]) -> Agreement:
    """Run `batch` (B, S, S, 3) through the wrapped file; compare with the graph's own answers."""
    session = open_session(path)
    remedy = "export it with a dynamic batch dimension"
    try:
        found = session.run(list(contract.OUTPUTS), {contract.IMAGE: batch})
    except Exception as error:  # ONNX Runtime's own classes; any of them means the same here
        reason = str(error).splitlines()[0]
        raise WrapError(
            f"the graph fails on a batch of {len(batch)}; {remedy} ({reason})"
        ) from error
    true = [np.concatenate(part) for part in zip(*expected, strict=True)]
    if any(a.shape != b.shape for a, b in zip(found, true, strict=True)):
        raise WrapError(
            f"the graph answers {len(batch)} images with class ids {found[0].shape}; {remedy}"
        )
    return agreement_of(found, true)


def check_class_names(folder: Path) -> None:
    """ForeignGraphError if the file beside the graph has other class names than the server."""
    ours = contract.class_names()
    for path in (folder / name for name in METADATA_FILES):
        if not path.is_file():
            continue
        described = json.loads(path.read_text("utf-8")).get("classes")
        theirs = [str(name).strip() for name in described or ours]
        if theirs != ours:
            pairs = enumerate(zip_longest(theirs, ours))
            first = next(number for number, (a, b) in pairs if a != b)
            raise ForeignGraphError(
                f"the {len(theirs)} classes in {path.name} differ from the {len(ours)} in "
                f"{contract.LABELS_PATH.name} from id {first} on; write the model's names into "
                "that file, one per line"
            )


def _describe(model: onnx.ModelProto, source: Path, layout: Layout, *, bgr: bool) -> None:
    metadata = {
        "class_names": json.dumps(contract.class_names()),
        "wrapped_from": source.name,
        "wrapped_sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
        "wrapped_layout": f"{layout}, {'BGR' if bgr else 'RGB'} inside",
    }
    for key, value in metadata.items():
        model.metadata_props.add(key=key, value=value)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="run wrap-onnx",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", type=Path, help="a model.onnx of the Focoos SDK or its hub")
    parser.add_argument(
        "--output", type=Path, default=contract.ONNX_PATH, help="default: %(default)s"
    )
    parser.add_argument(
        "--bgr",
        action="store_true",
        help="feed it blue first, as SDK 0.9 did; its mean and deviation are in RGB order",
    )
    parser.add_argument(
        "--image",
        type=Path,
        default=ROOT / "docs" / "street.jpg",
        help="to compare the two graphs on; default: %(default)s",
    )
    arguments = sys.argv[1:] if argv is None else argv
    options = parser.parse_args(accept_old_options(arguments, {"--picture": "--image"}))
    try:
        images = check_images(options.image, contract.IMAGE_SIZE)
        print(wrap_focoos(options.model, options.output, images, bgr=options.bgr))
    except (ValueError, WrapError, OSError, *ONNX_ERRORS) as error:
        log(f"wrap-onnx: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
