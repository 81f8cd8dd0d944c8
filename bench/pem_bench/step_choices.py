"""What the steps around the network could be made of: the choices of each stage, on one image.

The served choice comes first. Every other one says how far its result is from that one's. Packages
that the server does without are optional here: `pip install -c constraints.txt -e 'bench[steps]'`.
PyTurboJPEG is no choice of its own: it calls the system's libturbojpeg, the decoder in simplejpeg.
"""

import base64
import io
import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pemexport import contract

from .forms import Absent

SIZE = 640  # side of the network's input
THRESHOLD = 0.5
OPTIONAL = {  # import name: package, what it could do here
    "cv2": "opencv-python-headless",
    "simplejpeg": "simplejpeg",
    "orjson": "orjson",
    "pybase64": "pybase64",
}

Calls = dict[str, Callable[[], Any]]


@dataclass(frozen=True)
class Stage:
    """One piece of work and the ways to do it; `calls` starts with the served one.

    `same` makes results comparable: arrays, bytes or lists of them.
    """

    name: str
    calls: Calls
    same: Callable[[Any], Any] = lambda result: result


@dataclass(frozen=True)
class Recorded:
    """What the network said of one image."""

    class_ids: NDArray[np.int32]  # (Q,)
    scores: NDArray[np.float32]  # (Q,)
    masks: NDArray[np.uint8]  # (S, S)


def optional_packages() -> tuple[dict[str, Any], list[Absent]]:
    """The packages that are here, by import name, and those that are not."""
    found: dict[str, Any] = {}
    absent = []
    for name, package in OPTIONAL.items():
        try:
            found[name] = import_module(name)
        except ImportError:
            absent.append(Absent(package, "is not installed"))
    if "cv2" in found:
        found["cv2"].setNumThreads(1)  # as every step has one thread
    return found, absent


def load_step(repository: Path, model: str, module: str) -> ModuleType:
    """A module of a model's version folder, which is no package."""
    path = repository / model / "1" / f"{module}.py"
    spec = spec_from_file_location(f"{model}_{module}", path)
    assert spec
    assert spec.loader
    loaded = module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def stages(encoded: bytes, recorded: Recorded, repository: Path) -> Iterator[Stage]:
    """Every stage for one encoded image, from its bytes to the answer."""
    packages, _ = optional_packages()
    preprocessing = load_step(repository, "pem_preprocess", "preprocessing")
    postprocessing = load_step(repository, "pem_postprocess", "postprocessing")
    rendering = load_step(repository, "pem_render", "rendering")
    limits = preprocessing.Limits(max_bytes=2**28, max_pixels=2**28)
    _, geometry = preprocessing.prepare([encoded], limits, SIZE)
    yield from preparing(encoded, preprocessing, limits, packages)
    yield from answering(recorded, geometry[0], postprocessing, rendering, packages)


def preparing(
    encoded: bytes, step: ModuleType, limits: Any, packages: dict[str, Any]
) -> Iterator[Stage]:
    """Decoding, fitting, and both together, where a decoder may scale."""
    image, _ = step.decode(encoded, limits)
    pixels, square = np.asarray(image), np.empty((SIZE, SIZE, 3), np.uint8)
    _, _, height, width = step.fit(image, square)

    def placed(fitted: NDArray[np.uint8]) -> NDArray[np.uint8]:
        square[:height, :width] = fitted
        square[:height, width:] = padding[width:]
        square[height:] = padding
        return square

    def whole() -> NDArray[np.uint8]:
        step.fit(step.decode(encoded, limits)[0], square)
        return square

    def coloured() -> NDArray[np.uint8]:
        step.fit(image, square)
        square[:height, width:] = step.PIXEL_MEAN
        square[height:] = step.PIXEL_MEAN
        return square

    padding = np.tile(np.array(step.PIXEL_MEAN, np.uint8), (SIZE, 1))
    decode: Calls = {"Pillow": lambda: np.asarray(step.decode(encoded, limits)[0])}
    fit: Calls = {
        "Pillow, padded by rows": lambda: (step.fit(image, square), square)[1],
        "Pillow, padded by pixels": coloured,
    }
    both: Calls = {
        "Pillow, no larger than needed": lambda: step.prepare([encoded], limits, SIZE)[0][0],
        "Pillow, whole": whole,
    }
    if cv2 := packages.get("cv2"):
        data = np.frombuffer(encoded, np.uint8)

        def shrunk(array: NDArray[np.uint8], how: int) -> NDArray[np.uint8]:
            return placed(cv2.resize(array, (width, height), interpolation=how))

        decode["OpenCV"] = lambda: cv2.imdecode(data, cv2.IMREAD_COLOR_RGB)
        fit["OpenCV, area"] = lambda: shrunk(pixels, cv2.INTER_AREA)
        fit["OpenCV, linear"] = lambda: shrunk(pixels, cv2.INTER_LINEAR)
        both["OpenCV, area"] = lambda: shrunk(
            cv2.imdecode(data, cv2.IMREAD_COLOR_RGB), cv2.INTER_AREA
        )
    if simplejpeg := packages.get("simplejpeg"):
        decode["libjpeg-turbo"] = lambda: simplejpeg.decode_jpeg(encoded, strict=True)
        if pixels.shape[:2] == (height, width):
            both["libjpeg-turbo, into place"] = lambda: placed(
                simplejpeg.decode_jpeg(encoded, strict=True, buffer=square[:height, :width])
                if width == SIZE
                else simplejpeg.decode_jpeg(encoded, strict=True)
            )
        else:
            both["libjpeg-turbo, Pillow's resize"] = lambda: (
                step.fit(Image.fromarray(simplejpeg.decode_jpeg(encoded, strict=True)), square),
                square,
            )[1]
    yield Stage("decode, whole", decode)
    yield Stage("fit and pad", fit)
    yield Stage("decode, fit, pad", both)


def answering(
    recorded: Recorded,
    geometry: NDArray[np.int32],
    step: ModuleType,
    rendering: ModuleType,
    packages: dict[str, Any],
) -> Iterator[Stage]:
    """Thresholding and masks, PNG, base64 and JSON."""
    class_ids, scores, masks = recorded.class_ids, recorded.scores, recorded.masks
    labels = contract.LABELS_PATH.read_text(encoding="utf-8").splitlines()
    view = step.view_of(masks, geometry, 2**28)
    shown = np.ascontiguousarray(masks[view.rows][:, view.columns])  # (R, width)
    queries = [q for q in np.flatnonzero(scores > THRESHOLD) if (shown == q).any()]

    def packed_one_by_one() -> list[NDArray[np.uint8]]:
        return [np.packbits(shown == query, axis=1) for query in queries]

    def packed_at_once() -> list[NDArray[np.uint8]]:
        return list(np.packbits(shown == np.array(queries)[:, None, None], axis=2))

    def counted_first() -> list[NDArray[np.uint8]]:
        present = np.bincount(shown.ravel(), minlength=len(scores))
        return [np.packbits(shown == query, axis=1) for query in queries if present[query]]

    yield Stage(
        "masks of the index map",
        {
            "one by one": packed_one_by_one,
            "counted before": counted_first,
            "all at once": packed_at_once,
        },
        np.stack,
    )
    packed = packed_one_by_one()
    yield Stage("PNG of the masks", dict(png_ways(packed, view, step, packages)), decoded)
    pngs = [step.mask_png(mask, view) for mask in packed]
    one = (class_ids, scores, masks, geometry, THRESHOLD, 2**28)
    yield Stage(
        "one PNG for all (pem_render)", {"palette": lambda: rendering.segmentation_png(*one)}
    )
    text: Calls = {"base64": lambda: [base64.b64encode(png).decode("ascii") for png in pngs]}
    if pybase64 := packages.get("pybase64"):
        text["pybase64"] = lambda: [pybase64.b64encode(png).decode("ascii") for png in pngs]
    yield Stage("base64", text)
    found = step.find_detections(class_ids, scores, masks, view, THRESHOLD, labels)
    answer = {"detections": found, "latency": {"preprocess": 0.5}}
    dumped: Calls = {
        "json": lambda: json.dumps(answer, allow_nan=False, separators=(",", ":")).encode()
    }
    if orjson := packages.get("orjson"):
        dumped["orjson"] = lambda: orjson.dumps(answer)
    yield Stage("JSON", dumped, json.loads)
    yield Stage(
        "index map to detections",
        {
            "served": lambda: step.find_detections(
                class_ids,
                scores,
                masks,
                step.view_of(masks, geometry, 2**28),
                THRESHOLD,
                labels,
            )
        },
    )


def png_ways(
    packed: list[NDArray[np.uint8]], view: Any, step: ModuleType, packages: dict[str, Any]
) -> Iterator[tuple[str, Callable[[], list[bytes]]]]:
    """Ways to write each mask's PNG, by name."""
    size = (view.width, view.height)
    spans = np.diff(view.top)  # pixel rows of each shown map row
    lines = [mask.repeat(spans, axis=0).tobytes() for mask in packed]
    masks = [np.unpackbits(mask, axis=1, count=view.width).repeat(spans, axis=0) for mask in packed]

    def each(write: Callable[..., bytes], level: int) -> Callable[[], list[bytes]]:
        return lambda: [write(mask, size, level) for mask in lines]

    yield "by hand, runs", lambda: [step.mask_png(mask, view) for mask in packed]
    for level in (1, 6):
        yield f"by hand, level {level}", each(by_hand, level)
        yield f"Pillow, level {level}", each(saved, level)
    if cv2 := packages.get("cv2"):
        options = [cv2.IMWRITE_PNG_BILEVEL, 1, cv2.IMWRITE_PNG_COMPRESSION, 1]
        yield (
            "OpenCV, level 1",
            lambda: [cv2.imencode(".png", mask * 255, options)[1].tobytes() for mask in masks],
        )


def by_hand(lines: bytes, size: tuple[int, int], level: int) -> bytes:
    """A 1-bit PNG of packed lines with zlib's usual search."""
    width, height = size
    rows = np.frombuffer(lines, np.uint8).reshape(height, -1)
    filtered = np.pad(rows, ((0, 0), (1, 0)))  # each line begins with its filter: none
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes((1, 0, 0, 0, 0))
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(filtered.data, level)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")
        for kind, data in chunks
    )


def saved(lines: bytes, size: tuple[int, int], level: int) -> bytes:
    """A 1-bit PNG by Pillow."""
    file = io.BytesIO()
    Image.frombytes("1", size, lines).save(file, "PNG", compress_level=level)
    return file.getvalue()


def decoded(pngs: list[bytes]) -> NDArray[np.bool_]:
    """The masks in these files (N, height, width)."""
    return np.stack([np.asarray(Image.open(io.BytesIO(png)).convert("1")) for png in pngs])


def difference(found: Any, served: Any) -> str:
    """How far a result is from the served one's, in words."""
    if not isinstance(served, np.ndarray):
        return "equal" if found == served else "differs"
    if found.shape != served.shape:
        return f"differs: {found.shape}, not {served.shape}"
    apart = np.abs(found.astype(int) - served.astype(int))
    if not apart.any():
        return "equal"
    return f"{(apart > 0).mean():.1%} of values, by {apart.mean():.2f} on average"
