"""Bring a Focoos `model.onnx` in: the SDK's graph behind this project's tensor contract.

    ./run wrap-onnx model.onnx

Takes both forms that the Focoos SDK wrote, see pemexport/focoos_graph.py, and puts the new graph in
place only after its answers agreed with the old graph's own, read by NumPy, in batches of 1, 2 and
8. The class names of a `focoos_metadata.json` or `model_info.json` beside the file must be those
that the server answers with.
"""

import argparse
import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from itertools import zip_longest
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from pemexport import contract
from pemexport.focoos_graph import (
    ForeignGraphError,
    Form,
    IndexMapForm,
    Outputs,
    image_input,
    recognise,
    wrap,
)
from pemexport.onnx_export import CHECKED_BATCHES, Agreement, Images, check_images

METADATA_FILES = ("focoos_metadata.json", "model_info.json")  # of SDK 0.9, of 0.25

ONNX_ERRORS = (onnx.checker.ValidationError, onnx.shape_inference.InferenceError)

Answers = tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.uint8]]


class WrapError(RuntimeError):
    """The wrapped graph does not answer what the graph inside it answers."""


def wrap_focoos(source: Path, target: Path, images: Images, *, bgr: bool = False) -> Path:
    """Write the graph of `source` with the contract's tensors to `target`; returns `target`.

    `images` (8 or more, S, S, 3) uint8 RGB are what both graphs are compared on. `bgr` feeds
    the inner graph blue first. Raises ForeignGraphError for a graph that is not the SDK's and
    WrapError for one that does not survive the wrapping; `target` then stays as it was.
    """
    size = images.shape[1]
    check_class_names(source.parent)
    model = load(source)
    answer = open_raw(source, model, size, bgr=bgr)
    form = recognise(answer(images[0]), size)
    expected = [read(form, answer(image), size) for image in images]
    wrapped = wrap(model, form, size=size, map_size=expected[0][2].shape[1], bgr=bgr)
    _describe(wrapped, source, form, bgr=bgr)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".wrap-") as folder:
        draft = Path(folder) / target.name
        onnx.save(wrapped, draft)
        for count in CHECKED_BATCHES:
            agreement = compare(draft, images[:count], expected[:count])
            print(f"{form}, batch {count}: {agreement}", file=sys.stderr)
            if not agreement.good:
                raise WrapError(f"the wrapped graph differs from the graph inside it: {agreement}")
        os.replace(draft, target)
    return target


def load(source: Path) -> onnx.ModelProto:
    """The file as a graph; ForeignGraphError if it is none, OSError if it cannot be read."""
    try:
        return onnx.load(source)
    except DecodeError as error:
        raise ForeignGraphError(f"{source} must be an ONNX file, which it is not") from error


def open_raw(
    source: Path, model: onnx.ModelProto, size: int, *, bgr: bool
) -> Callable[[NDArray[np.uint8]], Outputs]:
    """The SDK's graph itself: takes one image (S, S, 3) and feeds it as the SDK would."""
    tensor = image_input(model, size)
    kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.type.tensor_type.elem_type)
    try:
        session = onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's own classes; any of them means the same here
        reason = str(error).splitlines()[0]
        raise ForeignGraphError(f"the graph must load in ONNX Runtime: {reason}") from error
    names = [output.name for output in session.get_outputs()]

    def answer(image: NDArray[np.uint8]) -> Outputs:
        planes = np.moveaxis(image[:, :, ::-1] if bgr else image, 2, 0)  # (3, S, S)
        answers = session.run(names, {tensor.name: np.ascontiguousarray(planes[None], kind)})
        return dict(zip(names, answers, strict=True))

    return answer


def read(form: Form, outputs: Outputs, size: int) -> Answers:
    """class_ids (1, Q), scores (1, Q), masks (1, S, S) of a graph's own outputs, in NumPy."""
    if isinstance(form, IndexMapForm):
        class_ids, scores, masks = (
            outputs[form.class_ids],
            outputs[form.scores],
            outputs[form.masks],
        )
        return class_ids.astype(np.int32), scores.astype(np.float32), masks.astype(np.uint8)
    probabilities = outputs[form.probabilities].astype(np.float32)  # (1, Q, K)
    scores = probabilities.max(axis=2)
    shares = outputs[form.masks].astype(np.float32) * scores[:, :, None, None]  # (1, Q, h, w)
    masks = enlarge(enlarge(shares, size, axis=2), size, axis=3).argmax(axis=1)  # (1, S, S)
    return probabilities.argmax(axis=2).astype(np.int32), scores, masks.astype(np.uint8)


def enlarge(values: NDArray[np.float32], size: int, axis: int) -> NDArray[np.float32]:
    """Linear interpolation by pixel centres along one axis, to `size` values."""
    length = values.shape[axis]
    place = np.clip((np.arange(size) + 0.5) * length / size - 0.5, 0, length - 1)
    low = np.floor(place).astype(int)
    high = np.minimum(low + 1, length - 1)
    share = np.expand_dims(place - low, tuple(range(1, values.ndim - axis))).astype(np.float32)
    between: NDArray[np.float32] = values.take(low, axis) * (1 - share)
    between += values.take(high, axis) * share
    return between


def compare(path: Path, batch: Images, expected: Sequence[Answers]) -> Agreement:
    """Run `batch` (B, S, S, 3) through the wrapped file, against each image's own answers."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what it would print is in the error
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    try:
        class_ids, scores, masks = session.run(list(contract.OUTPUTS), {contract.IMAGE: batch})
    except Exception as error:  # ONNX Runtime's own classes; any of them means the same here
        raise WrapError(
            f"the graph must take batches, and fails on one of {len(batch)}; export it with an "
            f"open batch dimension ({str(error).splitlines()[0]})"
        ) from error
    true_ids, true_scores, true_masks = (
        np.concatenate(part) for part in zip(*expected, strict=True)
    )
    if class_ids.shape != true_ids.shape or masks.shape != true_masks.shape:
        raise WrapError(
            f"the graph must answer each image of a batch; {len(batch)} images gave class ids "
            f"{class_ids.shape}; export it with an open batch dimension"
        )
    return Agreement(
        class_ids_equal=bool(np.array_equal(class_ids, true_ids)),
        score_difference=float(np.abs(scores - true_scores).max()),
        map_agreement=float((masks == true_masks).mean()),
    )


def check_class_names(folder: Path) -> None:
    """ForeignGraphError if the file beside the graph names other classes than the server does."""
    ours = contract.class_names()
    for path in (folder / name for name in METADATA_FILES):
        if not path.is_file():
            continue
        described = json.loads(path.read_text("utf-8")).get("classes")
        theirs = [str(name).strip() for name in described or ours]
        if theirs != ours:
            pairs = enumerate(zip_longest(theirs, ours))
            first = next(number for number, (one, other) in pairs if one != other)
            raise ForeignGraphError(
                f"the classes in {path.name} must be those of {contract.LABELS_PATH.name} "
                f"({len(ours)}), got {len(theirs)} that differ from id {first} on; put the model's "
                "names into that file, one a line"
            )


def _describe(model: onnx.ModelProto, source: Path, form: Form, *, bgr: bool) -> None:
    facts = {
        "class_names": json.dumps(contract.class_names()),
        "wrapped_from": source.name,
        "wrapped_sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
        "wrapped_form": f"{form}, {'BGR' if bgr else 'RGB'} inside",
    }
    for key, value in facts.items():
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
        default=contract.ROOT / "docs" / "street.jpg",
        help="what the two graphs are compared on (default: %(default)s)",
    )
    options = parser.parse_args(argv)
    try:
        images = check_images(options.image, contract.IMAGE_SIZE)
        print(wrap_focoos(options.model, options.output, images, bgr=options.bgr))
    except (ValueError, WrapError, OSError, *ONNX_ERRORS) as error:
        print(f"wrap-onnx: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
